//! The errors of routes, and the one place that gives each its status.

use std::time::Duration;

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use http_front::problem_response::{ProblemResponse, not_found, unauthorized};
use lifecycle::fault_log::FaultLog;
use wire::{Problem, ProblemKind};

use crate::db::failures::{self, StorageFault};

static FAULTS: FaultLog = FaultLog::new("A request failed");

/// The reason why a request was not carried out.
#[derive(Debug)]
pub enum Error {
    /// No token, or one that the route does not take.
    Unauthenticated(&'static str),
    /// A wrong e-mail or password; the answer does not say which.
    WrongPassword,
    /// Excess of failed log-ins.
    Throttled {
        /// The answer.
        problem: Problem,
        /// Seconds to wait.
        retry_after: u32,
    },
    /// A caller without the right.
    Forbidden(&'static str),
    /// An id under which nothing is known.
    NotFound,
    /// A request that the caller must change; the problem says what.
    Refused(Problem),
    /// A request that may succeed later.
    Busy {
        /// 429 when the caller is the reason, 503 when we are.
        status: u16,
        /// Seconds to wait.
        retry_after: u32,
        /// The reason.
        detail: &'static str,
    },
    /// The database takes no writes; nothing was changed.
    Storage(StorageFailure),
    /// A failure of the server; the details go to the log and not to the caller.
    Internal(anyhow::Error),
}

/// A fault of the database, and its cause where it was not logged yet.
#[derive(Debug, Clone)]
pub struct StorageFailure {
    /// The fault.
    pub fault: StorageFault,
    /// The cause.
    pub cause: Option<String>,
}

/// The result of a route.
pub type Result<T> = std::result::Result<T, Error>;

impl<E: Into<anyhow::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        let error = error.into();
        if failures::is_overloaded(&error) {
            return Self::Busy { status: 503, retry_after: 1, detail: "too many requests want the database" };
        }
        if let Some(fault) = StorageFault::of(&error) {
            return Self::Storage(StorageFailure { fault, cause: Some(format!("{error:#}")) });
        }
        Self::Internal(error)
    }
}

/// Refuses a session that has ended.
pub(crate) const fn session_ended() -> Error {
    Error::Unauthenticated("this log-in has ended: log in again")
}

/// Refuses a log-in after too many failures.
pub(crate) fn login_throttled(wait: Duration) -> Error {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let detail = format!("too many log-ins of this account or from this address failed: try again in {seconds} s");
    let problem = Problem::new(429, ProblemKind::Throttled, "Too many failed log-ins").detail(detail);
    Error::Throttled { problem, retry_after: seconds }
}

/// Makes the problem of a conflict with the present state, for [`Error::Refused`].
pub fn conflict(kind: ProblemKind, title: &str) -> Problem {
    Problem::new(409, kind, title)
}

/// Refuses a value.
pub fn invalid(detail: impl Into<String>) -> Error {
    Error::Refused(Problem::new(422, ProblemKind::InvalidValue, "Invalid value").detail(detail))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthenticated(detail) => unauthorized(detail),
            Self::WrongPassword => {
                let problem = Problem::new(401, ProblemKind::WrongPassword, "Wrong e-mail or password");
                // RFC 9110 §11.6.1 wants a challenge with every 401.
                with_header(
                    ProblemResponse(problem).into_response(),
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer"),
                )
            }
            Self::Throttled { problem, retry_after } => with_header(
                ProblemResponse(problem).into_response(),
                header::RETRY_AFTER,
                HeaderValue::from(retry_after),
            ),
            Self::Forbidden(detail) => {
                ProblemResponse(Problem::new(403, ProblemKind::Forbidden, "Forbidden").detail(detail)).into_response()
            }
            Self::NotFound => not_found().into_response(),
            Self::Refused(problem) => ProblemResponse(problem).into_response(),
            Self::Busy { status, retry_after, detail } => {
                let problem = Problem::new(status, ProblemKind::Busy, "Service busy").detail(detail);
                with_header(
                    ProblemResponse(problem).into_response(),
                    header::RETRY_AFTER,
                    HeaderValue::from(retry_after),
                )
            }
            Self::Storage(failure) => {
                let mut response = ProblemResponse(storage_problem(failure.fault)).into_response();
                if failure.fault == StorageFault::Full {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(10));
                }
                // The router notes it for `/readyz` and logs it when it begins.
                response.extensions_mut().insert(failure);
                response
            }
            Self::Internal(error) => {
                FAULTS.failed(format_args!("{error:#}"));
                ProblemResponse(Problem::new(500, ProblemKind::Internal, "Internal server error")).into_response()
            }
        }
    }
}

fn storage_problem(fault: StorageFault) -> Problem {
    match fault {
        StorageFault::Full => Problem::new(507, ProblemKind::DiskFull, "The info-server's disk is full").detail(
            "nothing was changed; lists and running downloads go on; try again once its operator has made room on the volume of its \
             data folder",
        ),
        StorageFault::ReadOnly
        | StorageFault::Failing
        | StorageFault::Damaged
        | StorageFault::FolderReplaced => {
            Problem::new(503, ProblemKind::StorageFailing, "The info-server's database takes no writes").detail(
                "nothing was changed; lists and running downloads go on; its operator finds the cause in its log and in /readyz",
            )
        }
    }
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}
