use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue, Method, header},
};
use http_front::extract::{Path, Query};
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{
    FileId, Zone,
    catalogue::{FileDetails, Location},
};

use crate::{
    catalogue::file::summary,
    error::{Result, invalid},
    http::auth::FileReader,
    jobs::job_file,
    replication::link_bandwidth::CrossZoneFetch,
    state::State,
    tokens::issue::{DownloadTokenRequest, issue},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// `false`: answer without a token.
    grant: Option<bool>,
    /// The zone of the client; sources there come first.
    #[param(pattern = "^[a-z0-9-]{0,63}$")]
    zone: Option<String>,
}

const NO_STORE: [(HeaderName, HeaderValue); 1] = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// `GET /v1/files/{id}`: the details query. Issues one token, committed with its event; never waits for the broker.
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file"), Asked), security(("session" = []), ("server" = [])),
    responses((status = 200, description = "Its sources, and a token", body = FileDetails))
)]
pub(crate) async fn show_file(
    Shared(state): Shared<Arc<State>>,
    caller: FileReader,
    Path(id): Path<FileId>,
    Query(asked): Query<Asked>,
    method: Method,
) -> Result<([(HeaderName, HeaderValue); 1], axum::Json<FileDetails>)> {
    let zone = asked.zone.as_deref().filter(|zone| !zone.is_empty()).map(str::parse::<Zone>).transpose();
    let zone = zone.map_err(|error| invalid(error.to_string()))?;
    let file = caller.file(&state, id).await?;
    let replicas = job_file::replica_map(&state.jobs, &state.db, &state.fleet, &file).await?;
    let root = replicas.root();
    let subject = caller.token_subject(&replicas)?;
    let locations = replicas.locations(caller.requester(zone.as_ref()), &state.zone_costs)?;
    let pull_limits = begin_fetch(&state, &caller, id, &locations);
    let granting = method == Method::GET && asked.grant != Some(false) && replicas.is_offered();
    let download = if granting {
        let lifetime = state.config.access.download_lifetime;
        let request = DownloadTokenRequest { file: id, zones: replicas.zones(), only: None, lifetime };
        Some(issue(&state.tokens, &subject, request).await?)
    } else {
        None
    };
    let missing = replicas.missing(file.layout);
    let is_disputed = replicas.is_disputed(file.content);
    let summary = summary(file, u32::try_from(replicas.complete())?, is_disputed);
    Ok((NO_STORE, axum::Json(FileDetails { summary, root, locations, download, pull_limits, missing })))
}

/// Allocates bandwidth to a file server that is sent to other zones; returns its allocation for each limited link.
fn begin_fetch(state: &State, caller: &FileReader, file: FileId, locations: &[Location]) -> BTreeMap<Zone, u64> {
    let FileReader::Server(server) = caller else { return BTreeMap::new() };
    let source_zones: BTreeSet<Zone> =
        locations.iter().filter(|location| location.cost > 0).map(|location| location.zone.clone()).collect();
    let zone = state.registry().get(server).map(|server| server.zone.clone());
    let Some(zone) = zone.filter(|_| !source_zones.is_empty()) else { return BTreeMap::new() };
    let fetch = CrossZoneFetch { server, zone: &zone, file, source_zones: &source_zones };
    state.link_bandwidth().begin(&fetch, Instant::now())
}
