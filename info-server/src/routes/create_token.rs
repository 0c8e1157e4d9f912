use std::{sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::{
    api::Conflict,
    http::{OptionalJson, Path},
};
use wire::{
    FileId,
    catalog::{IssuedToken, TokenRequest},
};

use crate::{
    app::State,
    caller::Downloader,
    downloads,
    error::{Error, Result, conflict, invalid},
    replication::standing::Standing,
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
pub(super) async fn create_token(
    Shared(state): Shared<Arc<State>>,
    caller: Downloader,
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
    let standing = Standing::of_entry(&state, &file).await?;
    if !standing.is_offered() {
        return Err(Error::Refused(conflict("not-available", "The file is not published yet")));
    }
    let holder = caller.holder(&standing)?;
    let issued = downloads::issue(&state, &holder, &standing, lifetime, asked.zones).await?;
    Ok((StatusCode::CREATED, axum::Json(issued)))
}
