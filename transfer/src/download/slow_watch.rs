//! Notices about sources that give so little that no chunk becomes complete. Pure.
//!
//! Bytes that arrive are progress, so such a source is waited for. The user sees which source it is, and how slow.

use std::time::Duration;

/// Bytes per second of all sources together below which a download without a complete chunk is slow.
const SLOW_RATE: u64 = 32 << 10;
/// Time without a complete chunk before the first notice; each further one takes twice as long.
const FIRST_NOTICE_AFTER: Duration = Duration::from_secs(10);
/// Transfers that may share the limit of a user, and as much again.
const LIMIT_SHARES: u64 = 32;
const MAX_NOTICE_INTERVAL: Duration = Duration::from_secs(300);

/// Watch for a download that crawls.
#[derive(Debug)]
pub(super) struct SlowWatch {
    /// Rate below which the download is slow.
    slow_rate: u64,
    /// Chunks that were complete at `since`.
    chunks: u32,
    /// Bytes of each source at `since`.
    received: Vec<u64>,
    since: Duration,
    interval: Duration,
    /// Time of the last complete chunk.
    last_chunk: Duration,
}

/// A download that crawls.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crawl {
    /// Bytes per second of each source, in their order.
    pub(super) rates: Vec<u64>,
    /// Time since a chunk became complete.
    pub(super) without_chunk: Duration,
}

impl SlowWatch {
    /// Creates the watch of a download that the user limited to `limit` bytes per second, together with others perhaps.
    pub(super) fn new(limit: Option<u64>) -> Self {
        let slow_rate = limit.map_or(SLOW_RATE, |limit| SLOW_RATE.min(limit / LIMIT_SHARES));
        let (since, last_chunk, interval) = (Duration::ZERO, Duration::ZERO, FIRST_NOTICE_AFTER);
        Self { slow_rate, chunks: 0, received: Vec::new(), since, interval, last_chunk }
    }

    /// Records the number of complete chunks and the bytes that each source gave so far. Returns what a notice is due about.
    pub(super) fn observe(&mut self, now: Duration, chunks: u32, received: Vec<u64>) -> Option<Crawl> {
        if self.chunks != chunks {
            (self.chunks, self.received, self.since, self.last_chunk) = (chunks, received, now, now);
            return None;
        }
        let elapsed = now.saturating_sub(self.since);
        if elapsed < self.interval {
            return None;
        }
        let before = |at: usize| self.received.get(at).copied().unwrap_or(0);
        let rate = |(at, bytes): (usize, &u64)| {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            bytes.saturating_sub(before(at)).saturating_mul(1000).checked_div(millis).unwrap_or(0)
        };
        let rates: Vec<u64> = received.iter().enumerate().map(rate).collect();
        let is_slow = (1..self.slow_rate).contains(&rates.iter().sum());
        (self.received, self.since) = (received, now);
        if !is_slow {
            return None;
        }
        self.interval = (self.interval * 2).min(MAX_NOTICE_INTERVAL);
        Some(Crawl { rates, without_chunk: now.saturating_sub(self.last_chunk) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds at which notices are due, of a download that completes a chunk every so many seconds.
    fn noticed(watch: &mut SlowWatch, rate: u64, chunk_every: u64, seconds: u64) -> Vec<u64> {
        let crawls = (0..seconds).filter(|second| {
            let chunks = u32::try_from(second / chunk_every).unwrap();
            watch.observe(Duration::from_secs(*second), chunks, vec![0, second * rate]).is_some()
        });
        crawls.collect()
    }

    #[test]
    fn a_crawling_source_is_told_of_more_and_more_rarely() {
        assert_eq!(noticed(&mut SlowWatch::new(None), 1024, 1024, 1024), [10, 30, 70, 150, 310, 610, 910]);
        assert_eq!(noticed(&mut SlowWatch::new(None), 20 << 10, 15, 100), [10], "a chunk becomes complete");
    }

    #[test]
    fn what_is_fast_or_silent_or_limited_by_the_user_is_not_called_slow() {
        for (limit, rate) in [(None, 64 << 10), (None, 0), (Some(16 << 10), 1 << 10)] {
            assert_eq!(noticed(&mut SlowWatch::new(limit), rate, 1024, 600), [0; 0], "{limit:?} {rate}");
        }
    }

    #[test]
    fn the_rate_of_each_source_and_the_time_without_a_chunk_are_given() {
        let mut watch = SlowWatch::new(None);
        let at = Duration::from_secs;
        assert_eq!(watch.observe(at(0), 0, vec![0]), None);
        assert_eq!(watch.observe(at(5), 1, vec![1 << 20]), None);
        assert_eq!(watch.observe(at(14), 1, vec![(1 << 20) + 10]), None);
        let crawl = watch.observe(at(15), 1, vec![(1 << 20) + 10_240, 20_480]).unwrap();
        assert_eq!(crawl, Crawl { rates: vec![1024, 2048], without_chunk: at(10) });
    }
}
