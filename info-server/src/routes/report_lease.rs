use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::{
    api::{Conflict, Gone},
    http::{Json, Path},
};
use wire::{
    JobId,
    job::{LeaseReport, MAX_REPORTED, Renewed, Span},
};

use super::claim_lease::over;
use crate::{
    app::State,
    caller::FileServer,
    error::{Error, Result, conflict, invalid},
    jobs::{lease_seconds, report::Told},
};

/// `PUT /v1/jobs/{id}/leases/{fence}`: what a worker fetched under a lease; renews it.
#[utoipa::path(
    put,
    path = "/v1/jobs/{id}/leases/{fence}",
    tag = "File servers",
    params(("id" = JobId, Path, description = "The job"), ("fence" = u64, Path, description = "The lease's number")),
    request_body = LeaseReport, security(("server" = [])),
    responses((status = 200, description = "Taken; what is left of the span", body = Renewed), Conflict, Gone)
)]
pub(super) async fn report_lease(
    Shared(state): Shared<Arc<State>>,
    FileServer(server): FileServer,
    Path((id, fence)): Path<(JobId, u64)>,
    Json(report): Json<LeaseReport>,
) -> Result<axum::Json<Renewed>> {
    if report.chunks.len() > MAX_REPORTED {
        return Err(invalid(format!("tell of at most {MAX_REPORTED} chunks at once")));
    }
    let told = state.jobs.act(move |board, now| board.report(id, (&server, fence), &report, now));
    let lease_s = lease_seconds();
    match told.await?.ok_or(Error::NotFound)?.map_err(over)? {
        Told::Goes(span) => {
            let span = Some(Span::try_from([span.start, span.end])?);
            Ok(axum::Json(Renewed { span, lease_s }))
        }
        Told::Ended => Ok(axum::Json(Renewed { span: None, lease_s })),
        Told::Foreign(n) => Err(invalid(format!("chunk {n} is not part of this lease"))),
        Told::Stale => {
            let problem = conflict("stale-fence", "The lease is over");
            Err(Error::Refused(problem.detail("somebody else has its chunks now: drop what is left of them")))
        }
    }
}
