//! The health of a source: whether it may receive requests, and how long it rests after a failure.

use std::time::Duration;

use super::fault::SourceFault;
use crate::progress::SourceActivity;

/// First rest after a failure. Each further failure that is an answer doubles it.
const FIRST_REST: Duration = Duration::from_millis(500);
/// Time between the beginnings of two probes of a failing source, at least: more than half a second and, with the delay until
/// the next decision, less than a second.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(900);
/// Probes in flight at a source. The first waits for as long as a source needs that only starts slowly. The second is
/// replaced after each [`PROBE_INTERVAL`]: on a connection that is older than the end of a pause, TCP waits for seconds
/// before it sends again.
const MAX_PROBES: usize = 2;
/// Longest rest, and the longest that a source may ask for.
const MAX_REST: Duration = Duration::from_secs(30);
/// Longest rest when no other source is left.
const MAX_REST_OF_LAST_RESORT: Duration = Duration::from_secs(2);
/// Time for which a source may send nothing; doubles with each failure, so that a source that only starts slowly gets to
/// answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);
/// Longest silence in the middle of an answer: a connection that lost so much waits longer and longer before it sends
/// again, and a new one continues the same chunk.
const MAX_SILENCE_MIDWAY: Duration = Duration::from_secs(4);

/// The failures of a source since it last served.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the source last gave a verified chunk.
    failures: u32,
    /// Time of the first failure, or the start of the youngest probe that failed: what began no later proves nothing.
    failed_at: Duration,
    rest: Duration,
    rests_since: Duration,
    /// Start of the last probe.
    last_probe: Option<Duration>,
    /// Set when the source has answered since it last failed: more than one request at a time is worthwhile.
    is_proven: bool,
    refuses_token: bool,
    is_dropped: bool,
    /// Set while the source does not finish a chunk that it alone has to supply.
    is_set_aside: bool,
}

impl Health {
    /// Returns true if the source counts as one of what it holds: a failing one does not until it has given a chunk again.
    pub(super) fn is_live(&self) -> bool {
        !self.is_dropped && !self.is_set_aside && !self.refuses_token && self.failures == 0
    }

    /// Returns true if the source receives probes only.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped
    }

    pub(super) fn set_aside(&mut self, is_set_aside: bool) {
        self.is_set_aside = is_set_aside;
    }

    pub(super) fn is_set_aside(&self) -> bool {
        self.is_set_aside
    }

    pub(super) fn refuses_token(&self) -> bool {
        self.refuses_token
    }

    pub(super) fn token_renewed(&mut self) {
        self.refuses_token = false;
    }

    /// Returns how many requests may be in flight, at most `limit`. A source of last resort rests less.
    pub(super) fn slots(&self, limit: usize, is_last_resort: bool, now: Duration) -> usize {
        let rest = if is_last_resort { self.rest.min(MAX_REST_OF_LAST_RESORT) } else { self.rest };
        let is_probed = self.last_probe.is_some_and(|last| now < last + PROBE_INTERVAL);
        let is_resting = self.is_failing() && (is_probed || now < self.rests_since + rest);
        match () {
            () if self.is_dropped || self.is_set_aside || self.refuses_token || is_resting => 0,
            () if self.is_failing() => limit.min(MAX_PROBES),
            () if self.is_proven => limit,
            () => 1,
        }
    }

    pub(super) fn request_started(&mut self, now: Duration) {
        self.last_probe = self.is_failing().then_some(now);
    }

    /// Returns how long the source may send nothing, before an answer or midway, to its only request or to a further one.
    pub(super) fn silence_limit(&self, is_midway: bool, is_further: bool) -> Duration {
        if self.is_failing() && is_further {
            return PROBE_INTERVAL;
        }
        let limit = SILENCE_LIMIT * 2_u32.pow(self.failures.min(3));
        if is_midway { limit.min(MAX_SILENCE_MIDWAY) } else { limit }
    }

    pub(super) fn answered(&mut self) {
        // A source that failed before has to give a whole chunk before it receives several requests again.
        self.is_proven |= self.failures == 0;
    }

    /// Records a verified chunk of a request that began at `started`. Returns true if the source had been failing.
    pub(super) fn chunk_verified(&mut self, started: Duration) -> bool {
        // Bytes that were in flight when the source failed say nothing about its state since.
        if self.failures > 0 && started <= self.failed_at {
            return false;
        }
        self.is_proven = true;
        std::mem::take(&mut self.failures) > 0
    }

    /// Records the failure of a request that began at `started`.
    pub(super) fn failed(&mut self, fault: SourceFault, started: Duration, now: Duration) {
        let min_rest = match fault {
            SourceFault::WrongBytes => {
                self.is_dropped = true;
                return;
            }
            SourceFault::TokenRefused => {
                self.refuses_token = true;
                return;
            }
            SourceFault::WrongMixedChunk => return,
            SourceFault::Busy(retry_after) => retry_after.unwrap_or_default().min(MAX_REST),
            SourceFault::Unreachable | SourceFault::Broken | SourceFault::NotHeld => Duration::ZERO,
        };
        self.is_proven = false;
        // Requests that fail together are one failure: only a probe began after it.
        let is_first = self.failures == 0;
        if !is_first && started <= self.failed_at {
            self.rest = self.rest.max(min_rest);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = if is_first { now } else { started };
        // The interval of probes is rest enough for a source that does not answer.
        if is_first || fault != SourceFault::Unreachable {
            self.rest = if is_first { FIRST_REST } else { self.rest * 2 }.clamp(min_rest, MAX_REST);
            self.rests_since = now;
        }
    }

    pub(super) fn activity(&self, now: Duration) -> SourceActivity {
        match () {
            () if self.is_dropped => SourceActivity::Dropped,
            () if self.slots(1, false, now) == 0 => SourceActivity::Resting,
            () => SourceActivity::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_source_that_does_not_answer_is_probed_about_once_a_second_however_long_it_lasts() {
        let mut health = Health::default();
        health.failed(SourceFault::Unreachable, Duration::ZERO, SECOND);
        let mut now = SECOND + FIRST_REST;
        for _ in 0..60 {
            assert_eq!(health.slots(4, false, now), MAX_PROBES);
            health.request_started(now);
            assert_eq!(health.silence_limit(false, true), PROBE_INTERVAL);
            assert_eq!(health.slots(4, true, now + PROBE_INTERVAL - Duration::from_millis(1)), 0);
            health.failed(SourceFault::Unreachable, now, now + Duration::from_millis(100));
            now += PROBE_INTERVAL;
        }
        health.failed(SourceFault::Busy(None), now, now);
        assert_eq!(health.rest, FIRST_REST * 2, "what did not answer is no reason to rest longer");
        assert!(health.chunk_verified(now + SECOND));
    }

    #[test]
    fn rests_double_up_to_half_a_minute_and_end_with_a_verified_chunk() {
        let mut health = Health::default();
        let mut now = Duration::ZERO;
        let mut rests = Vec::new();
        for _ in 0..9 {
            health.failed(SourceFault::Broken, now, now);
            health.failed(SourceFault::Broken, now, now);
            rests.push(health.rest.as_millis());
            assert_eq!(health.slots(4, false, now), 0);
            now += health.rest;
            assert_eq!(health.slots(1, false, now), 1, "a probe");
        }
        assert_eq!(rests, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        health.answered();
        assert_eq!(health.slots(4, false, now), MAX_PROBES, "an answer alone proves nothing");
        assert!(
            !health.chunk_verified(health.failed_at),
            "bytes that were in flight at the failure prove nothing either"
        );
        assert!(health.chunk_verified(now));
        assert_eq!(health.slots(4, false, now), 4);
        assert!(!health.chunk_verified(now));
    }

    #[test]
    fn the_source_of_last_resort_is_probed_every_two_seconds() {
        let mut health = Health::default();
        for n in 0..6 {
            health.failed(SourceFault::Broken, SECOND * 60 * n, SECOND * 60 * n);
        }
        let failed = SECOND * 300;
        assert_eq!(health.slots(4, true, failed + SECOND), 0);
        assert_eq!(health.slots(1, true, failed + SECOND * 2), 1);
        assert_eq!(health.slots(4, false, failed + SECOND * 2), 0);
        for probe in 1..9 {
            let now = failed + SECOND * 2 * probe;
            assert_eq!(health.slots(1, true, now), 1);
            health.failed(SourceFault::Broken, now, now);
            assert_eq!(health.slots(4, true, now), 0, "a failed probe is followed by a rest, not by the next probe");
        }
    }

    #[test]
    fn a_source_may_ask_for_a_rest_but_not_for_ever() {
        let mut health = Health::default();
        health.failed(SourceFault::Busy(Some(SECOND * 3600)), SECOND, SECOND);
        assert_eq!(health.rest, MAX_REST);
    }

    #[test]
    fn a_source_of_wrong_bytes_is_dropped_for_good() {
        let mut health = Health::default();
        health.failed(SourceFault::WrongBytes, SECOND, SECOND);
        assert!(health.is_dropped() && !health.is_live());
        health.token_renewed();
        for (limit, is_last_resort) in [(1, false), (4, true)] {
            assert_eq!(health.slots(limit, is_last_resort, SECOND * 3600), 0);
        }
        assert_eq!(health.activity(SECOND * 3600), SourceActivity::Dropped);
    }

    #[test]
    fn silence_is_tolerated_longer_after_each_failure_but_not_in_the_middle_of_an_answer() {
        let mut health = Health::default();
        let limits = |health: &Health| (health.silence_limit(false, false), health.silence_limit(true, false));
        assert_eq!(limits(&health), (SECOND * 2, SECOND * 2));
        for (n, expected) in (0..).zip([(4, 4), (8, 4), (16, 4), (16, 4)]) {
            health.failed(SourceFault::Broken, SECOND * 60 * n, SECOND * 60 * n);
            assert_eq!(limits(&health), (SECOND * expected.0, SECOND * expected.1));
        }
    }
}
