use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::{
    api::{Forbidden, Gone},
    http::{OptionalJson, Path},
};
use wire::{
    JobId, Problem,
    job::{Claim, Claimed, Reason},
};

use crate::{
    app::State,
    caller::FileServer,
    error::{Error, Result},
    jobs::{board::Claim as Outcome, driver, word},
};

/// `POST /v1/jobs/{id}/leases`: a worker asks for something to do.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/leases",
    tag = "File servers",
    params(("id" = JobId, Path, description = "The job")), request_body = Option<Claim>, security(("server" = [])),
    responses((status = 200, description = "A lease, or when to ask again", body = Claimed), Forbidden, Gone)
)]
pub(super) async fn claim_lease(
    Shared(state): Shared<Arc<State>>,
    FileServer(server): FileServer,
    Path(id): Path<JobId>,
    OptionalJson(Claim { held }): OptionalJson<Claim>,
) -> Result<axum::Json<Claimed>> {
    // Nobody could take the chunks from one that cannot be reached.
    let alive = driver::live(&state).remove(&server);
    let alive = alive.ok_or(Error::Forbidden("a file server works on jobs while it is registered and reachable"))?;
    let claim = state.jobs.act(move |board, now| board.claim(id, (&server, &alive), held.as_ref(), now));
    match claim.await?.ok_or(Error::NotFound)? {
        Outcome::Work(claimed) => Ok(axum::Json(*claimed)),
        Outcome::Over(reason) => Err(over(reason)),
        Outcome::NotAdmitted => Err(Error::Forbidden("the servers of this zone do not work on this job")),
    }
}

/// There is nothing to do for a job any more.
pub(super) fn over(reason: Option<Reason>) -> Error {
    let problem = Problem::new(410, "job-over", "Nothing is to be done for this job any more");
    Error::Refused(match reason {
        Some(reason) => problem.detail(reason.sentence()).with("reason", word(reason)),
        None => problem,
    })
}
