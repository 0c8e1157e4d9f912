//! The time: the info-server's clock, carried on by this machine's monotonic one.

use std::{sync::Mutex, time::Instant};

use jiff::{SignedDuration, Timestamp};

/// The time by which expiry is judged. This machine's wall clock may be wrong by days, so it never counts against the
/// info-server's: it only helps until the first heartbeat is answered, and only to end tokens earlier.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Base>);

#[derive(Debug, Clone, Copy)]
struct Base {
    time: Timestamp,
    at: Instant,
}

impl Clock {
    /// Returns a clock that begins at the later one of `wall` and the latest time ever received from an info-server. Without
    /// `wall`, tokens that expired while this server was down would be accepted; a wall clock that is behind is bounded by the
    /// mark, and one that is ahead only refuses tokens, until the info-server answers.
    pub(crate) fn new(high_water: Option<Timestamp>, wall: Timestamp, at: Instant) -> Self {
        Self(Mutex::new(Base { time: high_water.map_or(wall, |mark| mark.max(wall)), at }))
    }

    /// Sets the clock to the info-server's `time`, which it reported some time after the request was sent `at`.
    pub(crate) fn observe(&self, time: Timestamp, at: Instant) {
        *self.base() = Base { time, at };
    }

    /// Returns the present time.
    pub(crate) fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    fn at(&self, instant: Instant) -> Timestamp {
        let Base { time, at } = *self.base();
        let passed = SignedDuration::try_from(instant.saturating_duration_since(at)).unwrap_or(SignedDuration::MAX);
        time.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    fn base(&self) -> std::sync::MutexGuard<'_, Base> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_info_servers_time_and_what_passed_since_count_and_the_wall_clock_only_ends_tokens_earlier() {
        let start = Instant::now();
        let wall: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        let mark: Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
        assert_eq!(Clock::new(None, wall, start).at(start), wall);

        let later = mark + SignedDuration::from_hours(1);
        assert_eq!(Clock::new(Some(mark), later, start).at(start), later, "tokens ended while nothing ran");

        let clock = Clock::new(Some(mark), wall, start);
        assert_eq!(clock.at(start + Duration::from_secs(5)), mark + SignedDuration::from_secs(5));

        let ahead = Clock::new(Some(mark), mark + SignedDuration::from_hours(24), start);
        ahead.observe(mark + SignedDuration::from_secs(1), start);
        assert_eq!(ahead.at(start), mark + SignedDuration::from_secs(1), "a clock that is ahead is put right");

        let reported: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
        clock.observe(reported, start + Duration::from_secs(9));
        assert_eq!(clock.at(start + Duration::from_secs(9)), reported);
        assert_eq!(clock.at(start), reported, "the monotonic clock does not run backwards");
    }
}
