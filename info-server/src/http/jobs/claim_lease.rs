use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::{
    extract::{OptionalJson, Path},
    openapi::{Forbidden, Gone},
};
use wire::{
    JobId,
    job::{LeaseClaim, LeaseOffer},
};

use super::refusals::job_over;
use crate::{
    error::{Error, Result},
    http::auth::FileServer,
    jobs::{
        coordinator::workers::{ClaimOutcome, WorkerClaim},
        live_servers::live_servers,
    },
    state::State,
};

/// `POST /v1/jobs/{id}/leases`: a file server claims a span to fetch or to compare.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/leases",
    tag = "File servers",
    params(("id" = JobId, Path, description = "The job")), request_body = Option<LeaseClaim>, security(("server" = [])),
    responses((status = 200, description = "A lease, or when to ask again", body = LeaseOffer), Forbidden, Gone)
)]
pub(crate) async fn claim_lease(
    Shared(state): Shared<Arc<State>>,
    FileServer(server): FileServer,
    Path(id): Path<JobId>,
    OptionalJson(LeaseClaim { held }): OptionalJson<LeaseClaim>,
) -> Result<axum::Json<LeaseOffer>> {
    // Chunks on a server that cannot be reached are of no use to requesters.
    let live = live_servers(&state.fleet).remove(&server);
    let live = live.ok_or(Error::Forbidden("a file server works on jobs while it is registered and reachable"))?;
    match state.jobs.claim_lease(id, WorkerClaim { server, live, held }).await?.ok_or(Error::NotFound)? {
        ClaimOutcome::Offer(offer) => Ok(axum::Json(*offer)),
        ClaimOutcome::JobOver(reason) => Err(job_over(reason)),
        ClaimOutcome::NotAdmitted => Err(Error::Forbidden("the servers of this zone do not work on this job")),
    }
}
