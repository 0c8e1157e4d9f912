use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use lifecycle::{
    api::Gone,
    http::{Path, Query},
};
use wire::{
    JobId, Problem,
    job::{Asking, JobState, Reason},
};

use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result},
    jobs::{askers::Who, effects::Effect},
    store::{
        accounts::Role,
        audit::{Deed, Kind},
    },
};

/// `DELETE /v1/jobs/{id}?asker=`: the asker does not want it any more; without one, none of the account's does. When nobody
/// does, it stops, and what was fetched goes. 410 `asker-left` for one that left before.
///
/// An admin who did not ask for it stops it for everybody.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job"), Asking), security(("session" = [])),
    responses((status = 204, description = "The caller has nothing to do with it any more"), Gone)
)]
pub(super) async fn delete_job(
    Shared(state): Shared<Arc<State>>,
    Reader { user, address, .. }: Reader,
    Path(id): Path<JobId>,
    Query(Asking { asker }): Query<Asking>,
) -> Result<StatusCode> {
    let deed = Deed::new(Kind::JobCancelled).by(user.id, address).about(id);
    let who = Who { user: user.id, asker };
    let found = state.jobs.act(move |board, now| {
        let job = board.jobs.get_mut(&id).ok_or(Error::NotFound)?;
        if asker.is_some() {
            if job.askers.get(&who).ok_or(Error::NotFound)?.left {
                return Err(left());
            }
            job.leave(who, now);
        } else if job.is_asker(user.id) {
            job.leave_all(user.id, now);
        } else if user.role >= Role::Admin {
            job.finish(JobState::Stopped, Reason::Unwanted, now);
        } else {
            return Err(Error::NotFound);
        }
        job.follow(Effect::Record(deed));
        Ok(StatusCode::NO_CONTENT)
    });
    found.await?
}

/// An asker took its wish back, or its account did so for all.
pub(super) fn left() -> Error {
    let problem = Problem::new(410, "asker-left", "This asker has left the job");
    Error::Refused(
        problem.detail("it was given up, here or for the whole account: ask with POST /v1/jobs if it is wanted again"),
    )
}
