use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Json, Path},
    openapi::Conflict,
};
use wire::{
    FileId, ProblemKind,
    catalogue::{FileState, PreheatRequest},
    grammar::counted,
};

use crate::{
    catalogue::visibility::{must_be_changeable_by, visible},
    error::{Error, Result, conflict, invalid},
    http::auth::Publisher,
    replication::{
        policy::MAX_REPLICAS,
        store::{self, Preheat},
    },
    state::State,
};

/// Zones that one file may be requested in beside its policy.
pub(crate) const MAX_PREHEATED_ZONES: usize = 32;

/// `POST /v1/files/{id}/preheat`: asks for replicas in one more zone. Idempotent; a number that its publisher or an admin gives replaces the
/// one before.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/preheat",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), request_body = PreheatRequest, security(("session" = [])),
    responses((status = 202, description = "It will have replicas there"), Conflict)
)]
pub(crate) async fn preheat_file(
    Shared(state): Shared<Arc<State>>,
    Publisher(user): Publisher,
    Path(id): Path<FileId>,
    Json(asked): Json<PreheatRequest>,
) -> Result<StatusCode> {
    let replicas = asked.replicas.unwrap_or(state.config.replication.default_replicas);
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        return Err(invalid(format!("replicas must be between 1 and {MAX_REPLICAS}")));
    }
    let file = visible(&state.db, id, &user).await?;
    let may_change = must_be_changeable_by(&file, &user).is_ok();
    if !may_change && replicas > state.config.replication.default_replicas {
        return Err(Error::Forbidden("only its publisher or an admin asks for more replicas than the default"));
    }
    if file.state != FileState::Available {
        return Err(Error::Refused(conflict(ProblemKind::NotAvailable, "File not published yet")));
    }
    if !state.live().iter().any(|server| server.zone == asked.zone) {
        let detail = format!("no file server of the zone {} is live", asked.zone);
        return Err(Error::Refused(conflict(ProblemKind::TooFewServers, "Too few file servers").detail(detail)));
    }
    if state.db.preheats(id).await?.len() >= MAX_PREHEATED_ZONES {
        return Err(invalid(format!("a file is preheated in at most {MAX_PREHEATED_ZONES} zones")));
    }
    let lowers = may_change && asked.replicas.is_some();
    let mut write = state.db.write().await?;
    let there = store::preheat(&mut write, id, &asked.zone, Preheat { replicas, lowers }).await?;
    write.commit().await?;
    if !there {
        return Err(Error::NotFound);
    }
    state.planner.push(id);
    tracing::info!(file = %id, zone = %asked.zone, replicas, "File {id} gets {} in the zone {}", counted(replicas, "replica"), asked.zone);
    Ok(StatusCode::ACCEPTED)
}
