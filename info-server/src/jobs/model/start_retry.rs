//! The start of a scheduled job whose origin cannot be probed when its time comes.
//!
//! A failure that may pass is retried, with pauses that grow, for an hour from the first attempt on; a final answer of the origin
//! ends the job at once. Invariant: no attempt is planned beyond that hour.

use std::time::Duration;

use jiff::Timestamp;
use wire::job::JobReason;

use super::record::StartRetry;

/// The pause after the first attempt, doubled after each further one.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// The time from the first attempt to the last one at most.
const RETRY_PERIOD: Duration = Duration::from_secs(3600);

/// Returns true if another attempt may end otherwise.
const fn may_pass(reason: JobReason) -> bool {
    matches!(reason, JobReason::Unreachable | JobReason::Busy)
}

impl StartRetry {
    /// Returns the attempt that follows a failed one; none if the failure is final or the time is over. A pause that the origin asks
    /// for makes the own one longer, never shorter.
    pub(crate) fn after(
        before: Option<Self>,
        reason: JobReason,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Option<Self> {
        let (first_attempt, attempts) = before.map_or((now, 0), |before| (before.first_attempt, before.attempts));
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(MAX_PAUSE);
        let pause = pause.max(retry_after.unwrap_or_default());
        let last = first_attempt.checked_add(RETRY_PERIOD).ok()?;
        let next = now.checked_add(pause).ok()?;
        if !may_pass(reason) || now >= last {
            return None;
        }
        Some(Self { first_attempt, attempts: attempts.saturating_add(1), next_attempt: next.min(last), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_the_origin_asks_for_makes_the_own_one_longer_and_never_shorter() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pause = |asked: Option<u64>| {
            let retry = StartRetry::after(None, JobReason::Busy, asked.map(Duration::from_secs), now).unwrap();
            retry.next_attempt.duration_since(now).as_secs()
        };
        assert_eq!((pause(None), pause(Some(0)), pause(Some(90))), (5, 5, 90));
        assert_eq!(pause(Some(7200)), 3600, "no attempt is planned beyond the hour");
    }
}
