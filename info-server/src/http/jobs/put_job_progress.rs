use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Json, Path, Query},
    openapi::{Gone, TooManyRequests},
};
use wire::{
    JobId,
    job::{RequesterProgress, RequesterQuery},
};

use super::{job_caller::caller, refusals::refused};
use crate::{error::Result, http::auth::SignedInUser, state::State};

/// `PUT /v1/jobs/{id}/progress`: the chunks that the caller has; renews the caller's lease.
#[utoipa::path(
    put,
    path = "/v1/jobs/{id}/progress",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job"), RequesterQuery), request_body = RequesterProgress, security(("session" = [])),
    responses((status = 204, description = "Taken"), Gone, TooManyRequests)
)]
pub(crate) async fn put_job_progress(
    Shared(state): Shared<Arc<State>>,
    reader: SignedInUser,
    Path(id): Path<JobId>,
    Query(query): Query<RequesterQuery>,
    Json(progress): Json<RequesterProgress>,
) -> Result<StatusCode> {
    let progress = state.jobs.progress(id, caller(&reader, query), progress).await?;
    progress.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}
