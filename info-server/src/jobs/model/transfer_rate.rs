//! The transfer rate of a worker: a mean in which older transfers count less and less.

use std::time::Instant;

/// The weight of a measurement halves in this many seconds.
const HALF_LIFE_SECONDS: f64 = 1.5;
/// A rate measured over less than this many seconds is not trusted.
const MIN_MEASURED_SECONDS: f64 = 0.05;

/// Bytes a second, averaged over the last seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TransferRate {
    bytes: f64,
    seconds: f64,
    measured_until: Option<Instant>,
}

impl TransferRate {
    /// Adds bytes that arrived since the last call.
    pub(crate) fn add(&mut self, bytes: u64, now: Instant) {
        let elapsed = self.measured_until.map_or(0.0, |until| now.saturating_duration_since(until).as_secs_f64());
        let fade = 0.5_f64.powf(elapsed / HALF_LIFE_SECONDS);
        self.bytes = self.bytes * fade + to_float(bytes);
        self.seconds = self.seconds * fade + elapsed;
        self.measured_until = Some(now);
    }

    /// Starts to measure at `now`, after a time without work.
    pub(crate) const fn begin(&mut self, now: Instant) {
        self.measured_until = Some(now);
    }

    /// Returns bytes a second; 0 while nothing was measured.
    pub(crate) fn value(&self) -> f64 {
        if self.seconds < MIN_MEASURED_SECONDS { 0.0 } else { self.bytes / self.seconds }
    }

    /// Returns whole bytes a second.
    pub(crate) fn whole(&self) -> u64 {
        ceil_to_count(self.value())
    }
}

pub(crate) const fn to_float(count: u64) -> f64 {
    count as f64
}

/// Rounds up to a count; a number that is not finite or negative saturates.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast of a float saturates")]
pub(crate) fn ceil_to_count(number: f64) -> u64 {
    number.ceil() as u64
}
