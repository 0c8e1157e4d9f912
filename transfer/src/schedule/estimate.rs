//! Estimates of rates and durations from what was measured.

use std::time::Duration;

use super::{Schedule, extent::len_of, request::Request, source::SourceId};

impl Schedule {
    /// Returns the bytes per second of one request at `source`.
    pub(super) fn request_rate(&self, source: SourceId) -> Option<u64> {
        let requests = u64::try_from(self.requests_at(source).max(1)).unwrap_or(1);
        Some(self.source(source)?.rate.get()? / requests)
    }

    /// Returns the expected bytes per second of one more request at `source`: its own rate, or the mean of the others if it
    /// was never measured.
    pub(super) fn expected_rate(&self, source: SourceId) -> Option<u64> {
        let share = u64::try_from(self.requests_at(source) + 1).unwrap_or(1);
        let own = self.source(source)?.rate.get().map(|rate| rate / share);
        own.or_else(|| {
            let known: Vec<u64> = self.sources.iter().filter_map(|source| source.rate.get()).collect();
            known.iter().sum::<u64>().checked_div(u64::try_from(known.len()).ok()?)
        })
    }

    /// Returns how long a request will still need, by the rate of its source and the time for which it has been silent. Waiting
    /// for an answer is no silence until it lasts longer than for the answer before, or its source has failed.
    pub(super) fn time_left(&self, request: &Request, now: Duration) -> Duration {
        let source = self.source(request.source).filter(|source| !request.is_answered && !source.health.is_failing());
        let expected = source.map_or(Duration::ZERO, |source| source.rate.latency);
        let silence = now.saturating_sub(request.last_activity).saturating_sub(expected);
        let bytes = len_of(self.layout, request.run.clone()).saturating_sub(request.unfinished_bytes());
        let rate = self.request_rate(request.source).unwrap_or(u64::MAX);
        transfer_time(bytes, rate).saturating_add(silence * 4)
    }
}

/// Returns the time that `bytes` take at `rate` bytes per second.
pub(super) fn transfer_time(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
}
