//! The log of a failure that persists: one line when it begins or gets another reason, not one per attempt.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Time after which a failure that goes on is logged again.
const REMINDER_INTERVAL: Duration = Duration::from_secs(900);
/// Reasons that are remembered. Some name one of many files.
const MAX_REASONS: usize = 256;

/// Log of the failures of one piece of work.
#[derive(Debug)]
pub struct FaultLog {
    message: &'static str,
    /// Reasons that were logged, with the time.
    logged: Mutex<VecDeque<(String, Instant)>>,
}

impl FaultLog {
    /// Makes a log; `message` says what failed, and the reason is added.
    pub const fn new(message: &'static str) -> Self {
        Self { message, logged: Mutex::new(VecDeque::new()) }
    }

    /// Notes a failure. It is logged unless it was already, for the same reason.
    pub fn failed(&self, reason: impl Display) {
        let reason = reason.to_string();
        if self.is_new(&reason, Instant::now()) {
            tracing::error!(error = reason, "{}: {reason}", self.message);
        }
    }

    /// Notes a failure that the caller logs; returns true if it is to be logged.
    pub fn begins(&self, reason: impl Display) -> bool {
        self.is_new(&reason.to_string(), Instant::now())
    }

    /// Notes a success, which ends the failures before it.
    pub fn succeeded(&self) {
        let had_failed = !std::mem::take(&mut *self.lock()).is_empty();
        if had_failed {
            tracing::info!("It works again. Before: {}", self.message);
        }
    }

    /// Notes an outcome, and passes it on.
    ///
    /// # Errors
    /// That of the outcome.
    pub fn note<T, E: Display>(&self, outcome: Result<T, E>) -> Result<T, E> {
        match &outcome {
            Ok(_) => self.succeeded(),
            Err(error) => self.failed(error),
        }
        outcome
    }

    /// Returns true if a reason was not logged lately, and remembers it.
    fn is_new(&self, reason: &str, now: Instant) -> bool {
        let mut logged = self.lock();
        logged.retain(|(_, at)| now.saturating_duration_since(*at) < REMINDER_INTERVAL);
        if logged.iter().any(|(known, _)| known == reason) {
            return false;
        }
        if logged.len() == MAX_REASONS {
            logged.pop_front();
        }
        logged.push_back((reason.to_owned(), now));
        true
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Instant)>> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_when_it_begins_when_its_reason_changes_and_as_a_reminder() {
        let (log, now) = (FaultLog::new("The work failed"), Instant::now());
        let logged = |reason: &str, after| log.is_new(reason, now + after);
        let (second, reminder) = (Duration::from_secs(1), REMINDER_INTERVAL);
        assert!(logged("no room", Duration::ZERO) && !logged("no room", second));
        assert!(logged("no disk", second) && !logged("no room", second), "reasons that alternate");
        assert!(logged("no room", reminder) && !logged("no room", reminder + second));
        log.succeeded();
        assert!(logged("no room", reminder + second), "another failure");
        for n in 0..2 * MAX_REASONS {
            assert!(logged(&n.to_string(), reminder + second));
        }
        assert_eq!(log.lock().len(), MAX_REASONS);
    }
}
