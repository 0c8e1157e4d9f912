use std::{sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{OptionalJson, Path},
    openapi::Conflict,
};
use wire::{
    FileId, ProblemKind,
    catalogue::{IssuedToken, TokenRequest},
};

use crate::{
    error::{Error, Result, conflict, invalid},
    http::auth::FileReader,
    jobs::job_file,
    state::State,
    tokens::issue::{DownloadTokenRequest, issue},
};

/// Zones in one token: with all the tokens of a group commit they must fit one event.
const MAX_ZONES: usize = 32;

/// `POST /v1/files/{id}/tokens`: a further token for a download that runs long, lives shorter, or stays in some zones.
///
/// The body is optional, as everything in it is.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/tokens",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = Option<TokenRequest>, security(("session" = []), ("server" = [])),
    responses((status = 201, description = "A further token", body = IssuedToken), Conflict)
)]
pub(crate) async fn create_token(
    Shared(state): Shared<Arc<State>>,
    caller: FileReader,
    Path(id): Path<FileId>,
    OptionalJson(asked): OptionalJson<TokenRequest>,
) -> Result<(StatusCode, axum::Json<IssuedToken>)> {
    let longest = state.config.access.download_lifetime;
    let lifetime = asked.lifetime_s.map_or(longest, |seconds| Duration::from_secs(seconds.into()));
    if lifetime.is_zero() || lifetime > longest {
        return Err(invalid(format!("lifetime_s must be between 1 and {}", longest.as_secs())));
    }
    if asked.zones.as_ref().is_some_and(|zones| !(1..=MAX_ZONES).contains(&zones.len())) {
        return Err(invalid(format!("zones must name 1 to {MAX_ZONES} zones; leave it out for any")));
    }
    let file = caller.file(&state, id).await?;
    let replicas = job_file::replica_map(&state.jobs, &state.db, &state.fleet, &file).await?;
    if !replicas.is_offered() {
        return Err(Error::Refused(conflict(ProblemKind::NotAvailable, "File not published yet")));
    }
    let subject = caller.token_subject(&replicas)?;
    let request = DownloadTokenRequest { file: id, zones: replicas.zones(), only: asked.zones, lifetime };
    let issued = issue(&state.tokens, &subject, request).await?;
    Ok((StatusCode::CREATED, axum::Json(issued)))
}
