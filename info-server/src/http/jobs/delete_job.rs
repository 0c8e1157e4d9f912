use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Path, Query},
    openapi::Gone,
};
use wire::{JobId, job::RequesterQuery};

use super::{job_caller::caller, refusals::refused};
use crate::{
    accounts::audit::{AuditEntry, AuditKind},
    error::Result,
    http::auth::SignedInUser,
    state::State,
};

/// `DELETE /v1/jobs/{id}?asker=`: withdraws the request of one process; without an id, those of the whole account. When no request is
/// left, the job stops and what was fetched is removed. 410 `asker-left` for a process that left before.
///
/// An admin whose account did not ask for the job stops it for everyone.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job"), RequesterQuery), security(("session" = [])),
    responses((status = 204, description = "Withdrawn"), Gone)
)]
pub(crate) async fn delete_job(
    Shared(state): Shared<Arc<State>>,
    reader: SignedInUser,
    Path(id): Path<JobId>,
    Query(query): Query<RequesterQuery>,
) -> Result<StatusCode> {
    let entry = AuditEntry::new(AuditKind::JobCancelled).by(reader.user.id, reader.address).about(id);
    let left = state.jobs.leave(id, caller(&reader, query), entry).await?;
    left.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
