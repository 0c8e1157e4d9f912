//! The measured throughput of a source.

use std::time::Duration;

/// Shortest time over which a measurement is taken.
const MIN_MEASUREMENT_TIME: Duration = Duration::from_millis(50);
/// Time constant of the moving average in seconds: after this time a measurement counts for a third.
const AVERAGE_SECONDS: f64 = 0.3;

/// Silence after which a rate says nothing about the source any more: by then the average has decayed to almost nothing.
const MAX_QUIET_TIME: Duration = Duration::from_secs(1);

/// Bytes per second, as a moving average over the time in which requests were in flight. The time in which an answer is due
/// does not count: it is the latency.
#[derive(Debug, Default)]
pub(super) struct Rate {
    average: Option<f64>,
    bytes: u64,
    since: Option<Duration>,
    /// Time with requests in flight since the last bytes arrived, without the time in which the youngest of them waits for an
    /// answer no longer than the one before it.
    quiet: Duration,
    answer_due: Duration,
    last_update: Option<Duration>,
    /// Time from the last request that was answered to its answer, or that a later one waited in vain.
    pub(super) latency: Duration,
}

impl Rate {
    /// Returns the bytes per second, if measured yet.
    pub(super) fn get(&self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is finite and positive")]
        self.average.map(|rate| rate as u64)
    }

    /// Returns the time in which bytes were due and none arrived, since the last ones.
    pub(super) fn quiet(&self) -> Duration {
        self.quiet
    }

    /// Adds bytes that arrived.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.quiet = Duration::ZERO;
    }

    /// Records the start of a request.
    pub(super) fn request_started(&mut self, now: Duration) {
        self.update(now, true);
        self.answer_due = now + self.latency;
    }

    /// Takes a measurement when enough time has passed.
    pub(super) fn update(&mut self, now: Duration, is_busy: bool) {
        if !is_busy {
            (self.bytes, self.since, self.last_update) = (0, None, None);
            return;
        }
        let last_update = self.last_update.replace(now).unwrap_or(now);
        self.quiet += now.saturating_sub(last_update.max(self.answer_due));
        if self.bytes == 0 && now <= self.answer_due {
            self.since = Some(now);
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) >= MIN_MEASUREMENT_TIME {
            self.measure(now);
        }
    }

    /// Records that a request got no answer within `time`. Otherwise two sources that answer late would steal a chunk from each
    /// other before either can answer, for ever.
    pub(super) fn waited(&mut self, time: Duration) {
        self.latency = self.latency.max(time);
    }

    /// Takes the last request, which has ended, as a measurement however short it was, if there is no other.
    pub(super) fn finish(&mut self, now: Duration) {
        if self.average.is_none() {
            self.measure(now);
        }
    }

    /// Returns true if a source that gave bytes before has been silent for too long for its rate to say anything.
    pub(super) fn is_outdated(&self) -> bool {
        self.average.is_some() && self.quiet >= MAX_QUIET_TIME
    }

    /// Forgets the rate: a source that was silent is measured anew when it gives bytes again.
    pub(super) fn forget(&mut self) {
        (self.average, self.bytes, self.since) = (None, 0, None);
    }

    fn measure(&mut self, now: Duration) {
        let Some(since) = self.since.replace(now) else { return };
        let seconds = now.saturating_sub(since).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let measured = std::mem::take(&mut self.bytes) as f64 / seconds;
        // Waiting for the first answer says nothing about the rate that follows.
        if self.average.is_none() && measured == 0.0 && seconds < 1.0 {
            return;
        }
        let old = self.average.unwrap_or(measured);
        self.average = Some(measured + (old - measured) * (-seconds / AVERAGE_SECONDS).exp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_the_arriving_bytes_within_a_second() {
        let mut rate = Rate::default();
        let mut now = Duration::ZERO;
        rate.update(now, true);
        for step in 0..40 {
            now += MIN_MEASUREMENT_TIME;
            rate.add(if step < 20 { 50_000 } else { 5_000 });
            rate.update(now, true);
            if step == 19 {
                assert_eq!(rate.get(), Some(1_000_000));
            }
        }
        let slow = rate.get().unwrap();
        assert!((100_000..150_000).contains(&slow), "{slow}");
    }
}
