//! Everything a route can refuse, and the one place that gives it a status.

use axum::{
    http::{HeaderName, HeaderValue, header},
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
    /// E-mail or password is wrong; which of them is not said.
    WrongPassword,
    /// Too many failed log-ins.
    Throttled {
        /// What to do.
        problem: Problem,
        /// Seconds to wait.
        retry_after: u32,
    },
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
    /// There is no room for what would have to be written; nothing was changed.
    Full,
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
        if store::is_full(&error) {
            return Self::Full;
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
            Self::WrongPassword => {
                let problem = Problem::new(401, "wrong-password", "E-mail or password is wrong");
                // RFC 9110 §11.6.1 wants a challenge with every 401.
                with_header(
                    Refusal(problem).into_response(),
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer"),
                )
            }
            Self::Throttled { problem, retry_after } => {
                with_header(Refusal(problem).into_response(), header::RETRY_AFTER, HeaderValue::from(retry_after))
            }
            Self::Forbidden(detail) => {
                Refusal(Problem::new(403, "forbidden", "This is not allowed to you").detail(detail)).into_response()
            }
            Self::NotFound => not_found().into_response(),
            Self::Refused(problem) => Refusal(problem).into_response(),
            Self::Busy { status, retry_after, detail } => {
                let problem = Problem::new(status, "busy", "Not now").detail(detail);
                with_header(Refusal(problem).into_response(), header::RETRY_AFTER, HeaderValue::from(retry_after))
            }
            Self::Full => {
                tracing::error!("the volume of the data folder is full: nothing can be written until there is room");
                let problem = Problem::new(507, "disk-full", "The info-server's disk is full");
                let detail = "nothing was changed; try again once its operator has made room";
                with_header(Refusal(problem.detail(detail)).into_response(), header::RETRY_AFTER, HeaderValue::from(10))
            }
            Self::Internal(error) => {
                tracing::error!("a request failed: {error:#}");
                Refusal(Problem::new(500, "internal", "Something went wrong here")).into_response()
            }
        }
    }
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}
