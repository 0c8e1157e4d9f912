//! The rules by which a request is repeated. Pure.
//!
//! Reads are repeated when their answer is late or breaks off: a link that loses packets may stall one connection and not the next.
//! Every request is repeated after a proxy's 502, 503 or 504 and after a connection that ended without an answer, because the info-server
//! may be starting again, and after a 503 of the info-server itself, which has done nothing then. What makes something carries a key, so that
//! the info-server makes it once.

use std::time::{Duration, Instant};

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use wire::RequesterId;

use crate::{InfoError, Result};

/// Header with the key under which a request counts once.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Returns a key for one request and its repetitions.
pub(crate) fn key() -> String {
    RequesterId::new().to_string()
}

/// Returns true for the answers of a proxy that does not reach the server behind it.
pub(crate) fn is_gateway_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Returns the pause that an answer asks for.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The answer to one exchange.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) result: Result<Vec<u8>>,
    pub(crate) retry_after: Option<Duration>,
}

/// Outcome of one exchange, as far as it decides about a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The answer was late or broke off.
    Incomplete,
    /// The info-server ended before it answered, or a proxy does not reach it.
    Away,
    /// The info-server is overloaded and names a pause.
    Busy(Option<Duration>),
    /// A success, or a failure that a repetition does not change.
    Final,
}

/// Repetition of one request.
#[derive(Debug)]
pub(crate) struct Repetition {
    is_read: bool,
    is_removal: bool,
    until: Instant,
    pause: Duration,
    has_repeated: bool,
}

impl Repetition {
    pub(crate) fn new(method: &Method, until: Instant) -> Self {
        let (is_read, is_removal) = (*method == Method::GET, *method == Method::DELETE);
        Self { is_read, is_removal, until, pause: MIN_PAUSE, has_repeated: false }
    }

    /// Returns the pause before the next attempt; none if `outcome` is final.
    pub(crate) fn pause_after(&mut self, outcome: &reqwest::Result<Answered>, now: Instant) -> Option<Duration> {
        let failure = match outcome {
            Err(error) if error.is_timeout() || error.is_body() => Failure::Incomplete,
            // One that was there a moment ago is waited for; one that never was is reported at once.
            Err(error) if error.is_request() && (!error.is_connect() || self.has_repeated) => Failure::Away,
            Ok(Answered { result: Err(InfoError::Unreachable { .. }), .. }) => Failure::Away,
            Ok(Answered { result: Err(InfoError::Refused(problem)), retry_after }) if problem.status == 503 => {
                Failure::Busy(*retry_after)
            }
            Ok(_) | Err(_) => Failure::Final,
        };
        self.pause_after_failure(failure, now)
    }

    fn pause_after_failure(&mut self, failure: Failure, now: Instant) -> Option<Duration> {
        let pause = match failure {
            Failure::Incomplete if self.is_read => Duration::ZERO,
            Failure::Incomplete | Failure::Final => return None,
            Failure::Away | Failure::Busy(None) => self.next_pause(),
            Failure::Busy(Some(pause)) => pause.max(self.next_pause()),
        };
        let repeats = now + pause < self.until;
        self.has_repeated |= repeats;
        repeats.then_some(pause)
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(MAX_PAUSE);
        pause
    }

    /// Returns the result of the last attempt. A removal that was repeated may find nothing left to remove.
    pub(crate) fn result(&self, result: Result<Vec<u8>>) -> Result<Vec<u8>> {
        match result {
            Err(error) if self.is_removal && self.has_repeated && error.status() == Some(404) => Ok(Vec::new()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_is_repeated_and_nothing_else() {
        let now = Instant::now();
        let long = Failure::Busy(Some(Duration::from_secs(60)));
        for (method, failure, repeats) in [
            (Method::GET, Failure::Incomplete, true),
            (Method::POST, Failure::Incomplete, false),
            (Method::DELETE, Failure::Incomplete, false),
            (Method::GET, Failure::Away, true),
            (Method::POST, Failure::Away, true),
            (Method::PUT, Failure::Busy(None), true),
            (Method::POST, Failure::Busy(Some(Duration::from_secs(1))), true),
            (Method::GET, long, false),
            (Method::GET, Failure::Final, false),
        ] {
            let mut repetition = Repetition::new(&method, now + Duration::from_secs(20));
            let pause = repetition.pause_after_failure(failure, now);
            assert_eq!(pause.is_some(), repeats, "{method} {failure:?}");
            let mut unrepeated = Repetition::new(&method, now);
            assert_eq!(unrepeated.pause_after_failure(failure, now), None, "{method} {failure:?}");
        }
    }

    #[test]
    fn pauses_grow_and_repetition_ends() {
        let begun = Instant::now();
        let (mut now, until) = (begun, begun + Duration::from_secs(20));
        let mut repetition = Repetition::new(&Method::POST, until);
        let mut pauses = Vec::new();
        while let Some(pause) = repetition.pause_after_failure(Failure::Away, now) {
            pauses.push(pause);
            now += pause;
        }
        assert!(pauses.is_sorted() && pauses.last() == Some(&MAX_PAUSE) && pauses.len() < 20, "{pauses:?}");
        assert!(now < until);
    }
}
