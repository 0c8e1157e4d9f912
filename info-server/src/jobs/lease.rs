//! Leases, and how fast workers are. Pure.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use wire::{Runs, job::Purpose};

/// How long a lease lasts without a report.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How long without a report until others may take what is left of a span.
pub(crate) const SUSPECT: Duration = Duration::from_millis(1500);
/// How long workers wait at most between two tries to report to a server that was away: after a restart, leases are reckoned from so
/// much later on.
pub(crate) const RETURN: Duration = Duration::from_secs(1);
/// How long without a byte, though it is reported on, until others may take all that is left of it, begun or not. It is longer than
/// an origin may take for a connection and the head of its answer: whoever waits for a slow one is not robbed of what is about to come
/// by somebody who waits as long. What is not begun is shared much earlier, and the last chunks are raced.
const STUCK: Duration = Duration::from_secs(17);
/// The weight of what was measured fades by half in this time.
const HALF_LIFE: f64 = 1.5;

/// The right and the duty to fetch a span.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The worker's place in the job's list.
    pub(crate) seat: usize,
    /// The chunks that were given out.
    pub(crate) granted: Range<u32>,
    /// Where it ends now: others may have taken the rest.
    pub(crate) end: u32,
    pub(crate) purpose: Purpose,
    /// Whether it races another lease for its chunks.
    pub(crate) bet: bool,
    pub(crate) connections: u8,
    /// Chunks that need not be fetched under it any more.
    pub(crate) done: Runs,
    /// Bytes told of so far.
    pub(crate) bytes: u64,
    /// When it was last reported on.
    pub(crate) heard: Instant,
    /// When something last came under it.
    pub(crate) moved: Instant,
}

impl Lease {
    /// The chunks that it still covers.
    pub(crate) const fn span(&self) -> Range<u32> {
        self.granted.start..self.end
    }

    /// What is left of it.
    pub(crate) fn rest(&self) -> Runs {
        if self.granted.start >= self.end { Runs::new() } else { self.done.gaps(self.span()) }
    }

    /// Whether others may take what is left of it: nothing is heard of it, or nothing comes.
    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= SUSPECT || now.saturating_duration_since(self.moved) >= STUCK
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= LEASE
    }

    pub(crate) fn is_fetch(&self) -> bool {
        self.purpose == Purpose::Fetch
    }
}

/// Bytes a second, of late.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rate {
    bytes: f64,
    seconds: f64,
    since: Option<Instant>,
}

impl Rate {
    /// Takes in that so many more bytes came by now.
    pub(crate) fn add(&mut self, bytes: u64, now: Instant) {
        let seconds = self.since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        let fade = 0.5_f64.powf(seconds / HALF_LIFE);
        self.bytes = self.bytes * fade + real(bytes);
        self.seconds = self.seconds * fade + seconds;
        self.since = Some(now);
    }

    /// Begins to count at `now`, after a time without work.
    pub(crate) const fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Bytes a second; 0 while nothing is known.
    pub(crate) fn value(&self) -> f64 {
        if self.seconds < 0.05 { 0.0 } else { self.bytes / self.seconds }
    }

    /// The same in whole bytes.
    pub(crate) fn whole(&self) -> u64 {
        whole(self.value())
    }
}

/// A count as a number to reckon with.
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

/// A number rounded up to a count; what is none counts as 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast of a float saturates")]
pub(crate) fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between two reports that tell of bytes alone, as file servers send them.
    const PULSE: Duration = Duration::from_secs(1);

    fn lease(now: Instant) -> Lease {
        let (done, bytes, heard, moved) = (Runs::new(), 0, now, now);
        let (purpose, bet, connections) = (Purpose::Fetch, false, 1);
        Lease { seat: 0, granted: 0..64, end: 64, purpose, bet, connections, done, bytes, heard, moved }
    }

    #[test]
    fn whoever_waits_as_long_as_an_origin_may_take_is_not_robbed() {
        let limits = origin::Limits::default();
        let start = Instant::now();
        let mut lease = lease(start);
        let patience = limits.connect + limits.head;
        let mut now = start;
        while now < start + patience + PULSE {
            now += PULSE;
            lease.heard = now;
            assert!(!lease.is_suspect(now), "{:?} without a byte", now.duration_since(start));
        }
        // Longer than any origin may take, nothing comes.
        lease.heard = start + STUCK;
        assert!(lease.is_suspect(start + STUCK) && !lease.is_over(start + STUCK));
    }

    #[test]
    fn silence_makes_suspect_long_before_it_ends_a_lease() {
        let now = Instant::now();
        let lease = lease(now);
        assert!(
            !lease.is_suspect(now + SUSPECT / 2) && lease.is_suspect(now + SUSPECT) && !lease.is_over(now + SUSPECT)
        );
        assert!(lease.is_over(now + LEASE));
    }
}
