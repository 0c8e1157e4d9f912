//! The answers to requests about jobs that are refused.

use wire::{Problem, ProblemKind, grammar::counted, job::JobReason};

use crate::{
    error::{Error, invalid},
    jobs::coordinator::{admission::NoRoom, requests::RequesterRefusal},
};

/// Returns the answer to requests about a job that is over.
pub(super) fn job_over(reason: Option<JobReason>) -> Error {
    let problem = Problem::new(410, ProblemKind::JobOver, "Job is over");
    Error::Refused(match reason {
        Some(reason) => problem.detail(reason.sentence()).with("reason", reason_word(reason)),
        None => problem,
    })
}

/// Returns a reason as it is written in JSON.
pub(super) fn reason_word(reason: JobReason) -> serde_json::Value {
    serde_json::to_value(reason).unwrap_or_default()
}

/// Returns the answer to a request for which there is no room.
pub(super) fn no_room(reason: NoRoom) -> Error {
    match reason {
        NoRoom::Account => {
            let problem = Problem::new(429, ProblemKind::TooManyJobs, "Too many jobs of this account")
                .detail("leave one of them with DELETE /v1/jobs/{id}, or wait until one is over");
            Error::Throttled { problem, retry_after: 60 }
        }
        NoRoom::Requesters => {
            let problem = Problem::new(429, ProblemKind::TooManyRequesters, "Too many requesters of this account")
                .detail("have some of them leave with DELETE /v1/jobs/{id}?asker=, or ask without an id of your own");
            Error::Throttled { problem, retry_after: 60 }
        }
        NoRoom::Server => Error::Busy { status: 503, retry_after: 60, detail: "there are too many jobs" },
    }
}

/// Returns the answer to a requester that may not take part.
pub(super) fn refused(refusal: RequesterRefusal) -> Error {
    match refusal {
        RequesterRefusal::NotFound => Error::NotFound,
        RequesterRefusal::NoRoom(reason) => no_room(reason),
        RequesterRefusal::JobOver(reason) => job_over(reason),
        RequesterRefusal::NoSuchChunk { count } => invalid(format!("this job has {}", counted(count, "chunk"))),
        RequesterRefusal::Left => {
            let detail = "this requester left the job, or its account did: send POST /v1/jobs to ask again";
            Error::Refused(Problem::new(410, ProblemKind::RequesterLeft, "Requester has left").detail(detail))
        }
    }
}
