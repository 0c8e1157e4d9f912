//! The attempts of a direct download: which failure is worth another one, and after what pause. Pure.
//!
//! Invariant: between two attempts lies at least the program's own pause, which grows; without progress there is an end, whatever
//! the origin asks for.

use std::time::{Duration, Instant};

use origin::{Obstacle, OriginError};
use wire::job::JobReason;

const MIN_RETRY_PAUSE: Duration = Duration::from_millis(500);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(8);
/// Longest time for which a name server that does not answer is asked, before the origin was reached at all.
const MAX_LOOKUP_TIME: Duration = Duration::from_secs(10);
/// Pauses that an origin may ask for without progress, as a multiple of `--wait`, and in any case.
const REQUESTED_PAUSE_FACTOR: u32 = 10;
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(600);

/// Decision after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Another attempt after this pause.
    Retry(Duration),
    /// No further attempt: another one would end the same way, or the time is over.
    GiveUp,
    /// No further attempt: the origin asks for a pause that is longer than the user waits.
    ComeBack(Duration),
}

/// The attempts of one download.
#[derive(Debug)]
pub(super) struct RetrySchedule {
    /// Time without progress after which the download ends.
    wait: Duration,
    pause: Duration,
    last_progress: Instant,
    /// Pauses since then that the origin asked for, beyond the program's own.
    requested: Duration,
    /// Set once the origin was reached.
    has_reached: bool,
}

impl RetrySchedule {
    pub(super) const fn new(wait: Duration, now: Instant) -> Self {
        Self { wait, pause: MIN_RETRY_PAUSE, last_progress: now, requested: Duration::ZERO, has_reached: false }
    }

    /// Notes that bytes arrived.
    pub(super) const fn note_progress(&mut self, now: Instant) {
        (self.pause, self.last_progress, self.requested) = (MIN_RETRY_PAUSE, now, Duration::ZERO);
        self.has_reached = true;
    }

    /// Decides what follows a failed attempt.
    pub(super) fn after_failure(&mut self, error: &OriginError, now: Instant) -> NextStep {
        if !matches!(error.reason, JobReason::Unreachable | JobReason::Busy | JobReason::Changed) {
            return NextStep::GiveUp;
        }
        let wait = match error.obstacle {
            // An origin that was there may come back; one that never was is not where the URL says.
            Some(Obstacle::UnknownName | Obstacle::Refused) if !self.has_reached => return NextStep::GiveUp,
            Some(Obstacle::LookupFailed) if !self.has_reached => self.wait.min(MAX_LOOKUP_TIME),
            Some(_) => self.wait,
            None => {
                self.has_reached = true;
                self.wait
            }
        };
        let asked = error.retry_after.unwrap_or_default();
        let beyond = asked.saturating_sub(self.pause);
        let allowance = (self.wait * REQUESTED_PAUSE_FACTOR).min(MAX_REQUESTED_PAUSE);
        if self.requested + beyond > allowance {
            return NextStep::ComeBack(asked);
        }
        let waited = now.saturating_duration_since(self.last_progress).saturating_sub(self.requested);
        if waited + self.pause > wait {
            return NextStep::GiveUp;
        }
        self.requested += beyond;
        let pause = self.pause.max(asked);
        self.pause = (self.pause * 2).min(MAX_RETRY_PAUSE);
        NextStep::Retry(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: JobReason) -> OriginError {
        OriginError { reason, retry_after: None, obstacle: None, detail: String::new() }
    }

    fn busy(retry_after: u64) -> OriginError {
        OriginError { retry_after: Some(Duration::from_secs(retry_after)), ..error(JobReason::Busy) }
    }

    fn unreachable(obstacle: Obstacle) -> OriginError {
        OriginError { obstacle: Some(obstacle), ..error(JobReason::Unreachable) }
    }

    /// Returns the pauses until the schedule ends, when each attempt fails at once.
    fn pauses(wait: u64, error: &OriginError) -> (Vec<Duration>, NextStep) {
        let (start, mut passed) = (Instant::now(), Duration::ZERO);
        let mut schedule = RetrySchedule::new(Duration::from_secs(wait), start);
        let mut pauses = Vec::new();
        loop {
            match schedule.after_failure(error, start + passed) {
                NextStep::Retry(pause) => {
                    passed += pause;
                    pauses.push(pause);
                }
                end => return (pauses, end),
            }
            assert!(pauses.len() < 1000, "it has no end");
        }
    }

    #[test]
    fn no_origin_makes_the_attempts_more_frequent() {
        let (own, _) = pauses(60, &error(JobReason::Busy));
        assert!(own.is_sorted() && own[0] == MIN_RETRY_PAUSE && own.len() < 14, "{own:?}");
        // `Retry-After: 0`, or a date that is over.
        assert_eq!(pauses(60, &busy(0)).0, own);
        let (long, _) = pauses(3600, &busy(0));
        assert!(long.len() < 460 && long.iter().all(|pause| *pause >= MIN_RETRY_PAUSE), "{}", long.len());
    }

    #[test]
    fn a_pause_that_the_origin_asks_for_is_kept_also_beyond_the_wait() {
        let (pauses_90, end) = pauses(60, &busy(90));
        assert_eq!((pauses_90[0], end), (Duration::from_secs(90), NextStep::ComeBack(Duration::from_secs(90))));
        assert!(
            pauses_90.len() < 8 && pauses_90.iter().all(|pause| *pause == Duration::from_secs(90)),
            "{pauses_90:?}"
        );
        let hour = Duration::from_secs(3600);
        assert_eq!(pauses(60, &busy(3600)), (vec![], NextStep::ComeBack(hour)));
        assert_eq!(pauses(1, &busy(90)), (vec![], NextStep::ComeBack(Duration::from_secs(90))));
    }

    #[test]
    fn what_cannot_end_otherwise_is_not_repeated() {
        for final_error in [
            unreachable(Obstacle::UnknownName),
            unreachable(Obstacle::Refused),
            error(JobReason::Refused),
            error(JobReason::NotSecure),
            error(JobReason::NotPublic),
        ] {
            assert_eq!(pauses(60, &final_error), (vec![], NextStep::GiveUp), "{final_error:?}");
        }
        let (lookups, _) = pauses(60, &unreachable(Obstacle::LookupFailed));
        assert!((3..6).contains(&lookups.len()), "{lookups:?}");
    }

    #[test]
    fn an_origin_that_was_reached_may_be_away_for_a_while() {
        let now = Instant::now();
        for away in [Obstacle::UnknownName, Obstacle::LookupFailed, Obstacle::Refused] {
            let mut schedule = RetrySchedule::new(Duration::from_secs(60), now);
            schedule.note_progress(now);
            let later = now + Duration::from_secs(30);
            assert_eq!(schedule.after_failure(&unreachable(away), later), NextStep::Retry(MIN_RETRY_PAUSE), "{away:?}");
            assert_eq!(schedule.after_failure(&unreachable(away), now + Duration::from_secs(61)), NextStep::GiveUp);
            schedule.note_progress(now + Duration::from_secs(61));
            let later = now + Duration::from_secs(62);
            assert_eq!(schedule.after_failure(&unreachable(away), later), NextStep::Retry(MIN_RETRY_PAUSE), "{away:?}");
        }
    }
}
