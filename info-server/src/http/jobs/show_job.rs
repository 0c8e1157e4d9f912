use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Path;
use wire::{JobId, job::JobInfo};

use super::job_caller::{server_zones, viewer};
use crate::{
    error::{Error, Result},
    http::auth::SignedInUser,
    state::State,
};

/// `GET /v1/jobs/{id}`: the state of a job, for its requesters and admins.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job")), security(("session" = [])),
    responses((status = 200, description = "The job", body = JobInfo))
)]
pub(crate) async fn show_job(
    Shared(state): Shared<Arc<State>>,
    reader: SignedInUser,
    Path(id): Path<JobId>,
) -> Result<axum::Json<JobInfo>> {
    let info = state.jobs.view(id, viewer(&reader), server_zones(&state)).await?;
    info.map(axum::Json).ok_or(Error::NotFound)
}
