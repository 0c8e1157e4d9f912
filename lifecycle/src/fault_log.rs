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
    reasons: Mutex<Reasons>,
}

/// Reasons of failures that were not followed by a success.
#[derive(Debug)]
struct Reasons {
    /// Reasons that were logged, with the time.
    logged: VecDeque<(String, Instant)>,
    /// Time of the last failure, logged or not.
    last: Option<Instant>,
}

impl FaultLog {
    /// Makes a log; `message` says what failed, and the reason is added.
    pub const fn new(message: &'static str) -> Self {
        Self { message, reasons: Mutex::new(Reasons { logged: VecDeque::new(), last: None }) }
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
        self.end_failures(|_| true);
    }

    /// Notes a success of work of which other parts may still fail: it ends the failures before it once none came for `quiet`.
    pub fn succeeded_after(&self, quiet: Duration) {
        let now = Instant::now();
        self.end_failures(|last| now.saturating_duration_since(last) >= quiet);
    }

    /// Forgets the failures if the last one is over, and logs their end.
    fn end_failures(&self, is_over: impl FnOnce(Instant) -> bool) {
        let mut reasons = self.lock();
        if !reasons.last.is_some_and(is_over) {
            return;
        }
        reasons.last = None;
        let had_failed = !std::mem::take(&mut reasons.logged).is_empty();
        drop(reasons);
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
        let mut reasons = self.lock();
        reasons.last = Some(now);
        let logged = &mut reasons.logged;
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

    fn lock(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(log.lock().logged.len(), MAX_REASONS);
    }

    #[test]
    fn a_success_among_failures_ends_them_only_after_a_quiet_time() {
        let log = FaultLog::new("The work failed");
        assert!(log.begins("no room") && !log.begins("no room"));
        log.succeeded_after(Duration::from_secs(3600));
        assert!(!log.begins("no room"), "it failed just now");
        log.succeeded_after(Duration::ZERO);
        assert!(log.begins("no room"), "another failure");
    }
}
