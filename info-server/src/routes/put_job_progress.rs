use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::{
    api::Gone,
    http::{Json, Path, Query},
};
use wire::{
    JobId,
    job::{AskerProgress, Asking},
};

use super::{
    claim_lease::over,
    create_job::{no_room, who},
    delete_job::left,
    show_job::viewer,
};
use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result, invalid},
    jobs::{askers::Crowded, board::NoRoom},
};

/// `PUT /v1/jobs/{id}/progress`: what the caller has of it; renews the caller's lease.
#[utoipa::path(
    put,
    path = "/v1/jobs/{id}/progress",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job"), Asking), request_body = AskerProgress, security(("session" = [])),
    responses((status = 204, description = "Taken"), Gone)
)]
pub(super) async fn put_job_progress(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<JobId>,
    Query(asking): Query<Asking>,
    Json(progress): Json<AskerProgress>,
) -> Result<StatusCode> {
    let (who, admin) = (who(&reader, asking), viewer(&reader).is_none() && asking.asker.is_some());
    let taken = state.jobs.act(move |board, now| {
        let job = board.jobs.get_mut(&id).ok_or(Error::NotFound)?;
        if !job.take_part(who, admin, now).map_err(|Crowded| no_room(NoRoom::Askers))? {
            return Err(if job.askers.contains_key(&who) && job.is_asker(who.user) { left() } else { Error::NotFound });
        }
        if job.row.state.is_dead() {
            return Err(over(job.row.reason));
        }
        let count = job.count();
        if progress.runs.iter().any(|run| run.end > count) {
            return Err(invalid(format!("this job has {count} chunks")));
        }
        job.progress(who, progress.runs, progress.sha256, now);
        Ok(StatusCode::NO_CONTENT)
    });
    taken.await?
}
