use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::{
    api::Conflict,
    http::{Json, Path},
};
use wire::{
    FileId,
    catalog::{FileState, Preheat},
};

use super::create_file::MAX_REPLICAS;
use crate::{
    app::State,
    caller::Publisher,
    catalogue::visible,
    error::{Error, Result, conflict, invalid},
    store::files,
};

/// Zones that one file can be asked to stand in beside its policy.
const MAX_PREHEATS: usize = 32;

/// `POST /v1/files/{id}/preheat`: the file is to stand in one more zone. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/preheat",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = Preheat, security(("session" = [])),
    responses((status = 202, description = "It will stand there"), Conflict)
)]
pub(super) async fn preheat_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user, _): Publisher,
    Path(id): Path<FileId>,
    Json(asked): Json<Preheat>,
) -> Result<StatusCode> {
    let replicas = asked.replicas.unwrap_or(state.config.replication.default_replicas);
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(invalid(format!("replicas must be between 1 and {MAX_REPLICAS}")));
    }
    let file = visible(&state, id, &user).await?;
    if file.state != FileState::Available {
        return Err(Error::Refused(conflict("not-available", "The file is not published yet")));
    }
    if !state.live().iter().any(|server| server.zone == asked.zone) {
        let detail = format!("no file server of the zone {} is live", asked.zone);
        return Err(Error::Refused(conflict("too-few-servers", "Too few file servers").detail(detail)));
    }
    if state.store.preheats(id).await?.len() >= MAX_PREHEATS {
        return Err(invalid(format!("a file is preheated in at most {MAX_PREHEATS} zones")));
    }
    let mut write = state.store.write().await?;
    let there = files::preheat(&mut write, id, &asked, replicas).await?;
    write.commit().await?;
    if !there {
        return Err(Error::NotFound);
    }
    state.planner.look_at(id);
    tracing::info!(file = %id, zone = %asked.zone, replicas, "preheated");
    Ok(StatusCode::ACCEPTED)
}
