//! How fast a source is, measured.

use std::time::Duration;

/// The shortest time that is worth a measurement.
const WINDOW: Duration = Duration::from_millis(50);
/// How long a measurement is remembered: after this time it counts for a third.
const MEMORY: f64 = 0.3;

/// Bytes per second, as a moving average over the time in which requests ran.
#[derive(Debug, Default)]
pub(super) struct Rate {
    average: Option<f64>,
    bytes: u64,
    since: Option<Duration>,
    /// How long it took to answer last.
    pub(super) latency: Duration,
}

impl Rate {
    /// Bytes per second, if measured yet.
    pub(super) fn get(&self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is finite and positive")]
        self.average.map(|rate| rate as u64)
    }

    /// Bytes that came.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Measures, when there is enough to measure.
    pub(super) fn tick(&mut self, now: Duration, busy: bool) {
        if !busy {
            (self.bytes, self.since) = (0, None);
            return;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) >= WINDOW {
            self.measure(now);
        }
    }

    /// The last request ended: what it showed counts even if it was short, when nothing else is known.
    pub(super) fn settle(&mut self, now: Duration) {
        if self.average.is_none() {
            self.measure(now);
        }
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
        self.average = Some(measured + (old - measured) * (-seconds / MEMORY).exp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_comes_within_a_second() {
        let mut rate = Rate::default();
        let mut now = Duration::ZERO;
        rate.tick(now, true);
        for step in 0..40 {
            now += WINDOW;
            rate.add(if step < 20 { 50_000 } else { 5_000 });
            rate.tick(now, true);
            if step == 19 {
                assert_eq!(rate.get(), Some(1_000_000));
            }
        }
        let slow = rate.get().unwrap();
        assert!((100_000..150_000).contains(&slow), "{slow}");
    }
}
