use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::{
    extract::{Json, Path},
    openapi::{Conflict, Gone},
};
use wire::{
    JobId, ProblemKind,
    job::{LeaseRenewal, LeaseReport, MAX_REPORTED, Span},
};

use super::refusals::job_over;
use crate::{
    error::{Error, Result, conflict, invalid},
    http::auth::FileServer,
    jobs::{
        coordinator::workers::LeaseKey,
        model::{job::reports::ReportOutcome, lease_table::lease_seconds},
    },
    state::State,
};

/// `PUT /v1/jobs/{id}/leases/{fence}`: a worker reports what it fetched under a lease, which renews it.
#[utoipa::path(
    put,
    path = "/v1/jobs/{id}/leases/{fence}",
    tag = "File servers",
    params(("id" = JobId, Path, description = "The job"), ("fence" = u64, Path, description = "The lease's number")),
    request_body = LeaseReport, security(("server" = [])),
    responses((status = 200, description = "Taken; what is left of the span", body = LeaseRenewal), Conflict, Gone)
)]
pub(crate) async fn report_lease(
    Shared(state): Shared<Arc<State>>,
    FileServer(server): FileServer,
    Path((job, fence)): Path<(JobId, u64)>,
    Json(report): Json<LeaseReport>,
) -> Result<axum::Json<LeaseRenewal>> {
    if report.chunks.len() > MAX_REPORTED {
        return Err(invalid(format!("a report holds at most {MAX_REPORTED} chunks: send the others in a further one")));
    }
    let outcome = state.jobs.report_lease(LeaseKey { job, server, fence }, report).await?;
    let lease_s = lease_seconds();
    match outcome.ok_or(Error::NotFound)? {
        ReportOutcome::Renewed(span) => {
            let span = Some(Span::try_from([span.start, span.end])?);
            Ok(axum::Json(LeaseRenewal { span, lease_s }))
        }
        ReportOutcome::Ended => Ok(axum::Json(LeaseRenewal { span: None, lease_s })),
        ReportOutcome::Foreign(n) => Err(invalid(format!("chunk {n} is not part of this lease"))),
        ReportOutcome::Stale => {
            let problem = conflict(ProblemKind::StaleFence, "Lease is over");
            Err(Error::Refused(problem.detail("its chunks may be leased to another worker: drop what is left of them")))
        }
        ReportOutcome::JobOver(reason) => Err(job_over(reason)),
    }
}
