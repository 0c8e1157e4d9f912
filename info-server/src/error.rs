//! Everything a route can refuse, and the one place that gives it a status.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use lifecycle::http::{Refusal, not_found, unauthorized};
use wire::Problem;

use crate::store;

/// Why a request was not carried out.
#[derive(Debug)]
pub enum Error {
    /// No token, or one that means nothing here.
    Unauthenticated(&'static str),
    /// A token that does not reach this far.
    Forbidden(&'static str),
    /// Nothing is known under this id.
    NotFound,
    /// The caller must change something, and is told what.
    Refused(Problem),
    /// Not now; try again after so many seconds.
    Busy {
        /// 429 when the caller is the reason, 503 when we are.
        status: u16,
        /// Seconds to wait.
        retry_after: u32,
        /// Why.
        detail: &'static str,
    },
    /// Our own fault; the details go to the log and not to the caller.
    Internal(anyhow::Error),
}

/// What routes return.
pub type Result<T> = std::result::Result<T, Error>;

impl<E: Into<anyhow::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        let error = error.into();
        if store::is_crowded(&error) {
            return Self::Busy { status: 503, retry_after: 1, detail: "too many requests want the database" };
        }
        Self::Internal(error)
    }
}

/// A conflict with the present state, for [`Error::Refused`].
pub fn conflict(word: &str, title: &str) -> Problem {
    Problem::new(409, word, title)
}

/// A value that cannot be taken, for [`Error::Refused`].
pub fn invalid(detail: impl Into<String>) -> Error {
    Error::Refused(Problem::new(422, "invalid-value", "A value cannot be taken").detail(detail))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthenticated(detail) => unauthorized(detail),
            Self::Forbidden(detail) => {
                Refusal(Problem::new(403, "forbidden", "This is not allowed to you").detail(detail)).into_response()
            }
            Self::NotFound => not_found().into_response(),
            Self::Refused(problem) => Refusal(problem).into_response(),
            Self::Busy { status, retry_after, detail } => {
                let problem = Problem::new(status, "busy", "Not now").detail(detail);
                let mut response = Refusal(problem).into_response();
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
                response
            }
            Self::Internal(error) => {
                tracing::error!("a request failed: {error:#}");
                Refusal(Problem::new(500, "internal", "Something went wrong here")).into_response()
            }
        }
    }
}
