//! How long a failing source is left alone.

use std::time::Duration;

use super::Fault;
use crate::progress::SourceState;

/// The first rest; each further failure doubles it. One probe per rest keeps tries below two a second.
const FIRST_REST: Duration = Duration::from_millis(500);
/// The longest rest, and the longest that a source may ask for.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// The longest rest when there is nobody else to ask.
const LAST_HOPE_REST: Duration = Duration::from_secs(2);
/// How long a source may send nothing; doubles with each failure, so that one that is only slow to start is heard.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest silence in the middle of an answer: a connection that lost so much waits longer and longer to send it again,
/// and a new one goes on with the same chunk.
const LONGEST_SILENCE: Duration = Duration::from_secs(4);

/// Whether a source may be asked.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since it last gave a verified chunk.
    tries: u32,
    failed_at: Duration,
    rest: Duration,
    /// It answered since it last failed: more than one request at a time is worth it.
    proven: bool,
    /// It refused the token.
    pub(super) refused: bool,
    dropped: bool,
}

impl Health {
    /// Whether it counts as a source of what it holds: a failing one does not until it proved itself again.
    pub(super) fn lives(&self) -> bool {
        !self.dropped && !self.refused && self.tries == 0
    }

    pub(super) fn dropped(&self) -> bool {
        self.dropped
    }

    /// How many requests it may have in flight.
    pub(super) fn slots(&self, connections: usize, last_hope: bool, now: Duration) -> usize {
        let rest = if last_hope { self.rest.min(LAST_HOPE_REST) } else { self.rest };
        let resting = self.tries > 0 && now < self.failed_at + rest;
        match () {
            () if self.dropped || self.refused || resting => 0,
            () if self.proven => connections,
            () => 1,
        }
    }

    /// How long it may send nothing, before an answer or `midway`.
    pub(super) fn patience(&self, midway: bool) -> Duration {
        let patience = PATIENCE * 2_u32.pow(self.tries.min(3));
        if midway { patience.min(LONGEST_SILENCE) } else { patience }
    }

    pub(super) fn answered(&mut self) {
        // One that failed before has to give a whole chunk before it is believed again.
        self.proven |= self.tries == 0;
    }

    /// It gave a verified chunk, to a request begun at `started`. Returns whether it had been failing.
    pub(super) fn proved(&mut self, started: Duration) -> bool {
        // What was on its way when the source failed says nothing about how it fares since.
        if self.tries > 0 && started <= self.failed_at {
            return false;
        }
        self.proven = true;
        std::mem::take(&mut self.tries) > 0
    }

    pub(super) fn failed(&mut self, fault: Fault, now: Duration) {
        let asked = match fault {
            Fault::WrongBytes => {
                self.dropped = true;
                return;
            }
            Fault::Refused => {
                self.refused = true;
                return;
            }
            Fault::Unclear => return,
            Fault::Busy(asked) => asked.unwrap_or_default().min(LONGEST_REST),
            Fault::Broken | Fault::NotHeld => Duration::ZERO,
        };
        self.proven = false;
        // Requests that fail together are one failure; the last hope's probe comes before its rest is over and is another.
        if self.tries == 0 || now >= self.failed_at + self.rest.min(LAST_HOPE_REST) {
            self.tries = self.tries.saturating_add(1);
            self.rest = (FIRST_REST * 2_u32.pow(self.tries.min(7) - 1)).clamp(asked, LONGEST_REST);
            self.failed_at = now;
        } else {
            self.rest = self.rest.max(asked);
        }
    }

    pub(super) fn state(&self, now: Duration) -> SourceState {
        match () {
            () if self.dropped => SourceState::Dropped,
            () if self.slots(1, false, now) == 0 => SourceState::Resting,
            () => SourceState::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rests_double_up_to_half_a_minute_and_end_with_a_verified_chunk() {
        let mut health = Health::default();
        let mut now = Duration::ZERO;
        let mut rests = Vec::new();
        for _ in 0..9 {
            health.failed(Fault::Broken, now);
            health.failed(Fault::Broken, now);
            rests.push(health.rest.as_millis());
            assert_eq!(health.slots(4, false, now), 0);
            now += health.rest;
            assert_eq!(health.slots(4, false, now), 1, "one probe");
        }
        assert_eq!(rests, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        health.answered();
        assert_eq!(health.slots(4, false, now), 1, "an answer alone is not believed");
        assert!(!health.proved(health.failed_at), "what was on its way is not believed either");
        assert!(health.proved(now));
        assert_eq!(health.slots(4, false, now), 4);
        assert!(!health.proved(now));
    }

    #[test]
    fn the_last_hope_is_tried_every_two_seconds() {
        let mut health = Health::default();
        for n in 0..6 {
            health.failed(Fault::Broken, SECOND * 60 * n);
        }
        let failed = SECOND * 300;
        assert_eq!(health.slots(4, true, failed + SECOND), 0);
        assert_eq!(health.slots(4, true, failed + SECOND * 2), 1);
        assert_eq!(health.slots(4, false, failed + SECOND * 2), 0);
        for probe in 1..9 {
            let now = failed + SECOND * 2 * probe;
            assert_eq!(health.slots(4, true, now), 1);
            health.failed(Fault::Broken, now);
            assert_eq!(health.slots(4, true, now), 0, "a probe that failed is followed by a rest, not by the next one");
        }
    }

    #[test]
    fn a_source_may_ask_for_a_rest_but_not_for_ever() {
        let mut health = Health::default();
        health.failed(Fault::Busy(Some(SECOND * 3600)), SECOND);
        assert_eq!(health.rest, LONGEST_REST);
    }
}
