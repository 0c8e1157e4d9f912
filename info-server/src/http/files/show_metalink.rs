use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, header},
};
use http_front::{
    extract::{Path, Query},
    openapi::Conflict,
};
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{FileId, ProblemKind, ServerId};

use crate::{
    catalogue::{metalink::Metalink, visibility::visible},
    error::{Error, Result, conflict, invalid},
    http::auth::SignedInUser,
    replication::replica_map::{ReplicaMap, Requester, ServerReplica},
    state::State,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// The zone of the client; sources there come first.
    #[param(pattern = "^[a-z0-9-]{0,63}$")]
    zone: Option<String>,
}

const META4: &str = "application/metalink4+xml";

/// `GET /v1/files/{id}/metalink`: the file for other download programs, with every complete live replica.
///
/// It holds no token: the sources want one in `Authorization: Bearer`, from `POST /v1/files/{id}/tokens`.
#[utoipa::path(get, path = "/v1/files/{id}/metalink", tag = "Files", security(("session" = [])),
    params(("id" = FileId, Path, description = "The file"), Asked),
    responses((status = 200, description = "Metalink 4 (RFC 5854)", content_type = "application/metalink4+xml", body = String), Conflict))]
pub(crate) async fn show_metalink(
    Shared(state): Shared<Arc<State>>,
    SignedInUser { user, .. }: SignedInUser,
    Path(id): Path<FileId>,
    Query(asked): Query<Asked>,
) -> Result<([(HeaderName, HeaderValue); 3], Vec<u8>)> {
    let zone = asked.zone.as_deref().filter(|zone| !zone.is_empty()).map(str::parse).transpose();
    let zone = zone.map_err(|error: wire::id::LabelError| invalid(error.to_string()))?;
    let file = visible(&state.db, id, &user).await?;
    let digests = state.db.digests(id).await?;
    let (Some(content), Some(digests)) = (file.content, digests) else {
        return Err(Error::Refused(conflict(ProblemKind::NotAvailable, "File not published yet")));
    };
    let replicas = ReplicaMap::load(&state.db, &state.fleet, id, Some(content.root)).await?;
    let is_complete = |replica: &&ServerReplica| replicas.is_complete(&replica.record);
    let complete: BTreeSet<&ServerId> =
        replicas.servers().iter().filter(is_complete).map(|replica| &replica.server.id).collect();
    let mut sources = replicas.locations(Requester::Person(zone.as_ref()), &state.zone_costs)?;
    sources.retain(|source| complete.contains(&source.server));
    let is_disputed = replicas.is_disputed(Some(content));
    let metalink = Metalink {
        name: file.name.as_str(),
        size: file.layout.size(),
        sha256: file.shown_sha256(is_disputed),
        chunk_size: file.layout.chunk_size(),
        digests: &digests,
        sources: &sources,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(META4)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_DISPOSITION, HeaderValue::try_from(format!("attachment; filename=\"{id}.meta4\""))?),
    ];
    Ok((headers, metalink.to_xml()?))
}
