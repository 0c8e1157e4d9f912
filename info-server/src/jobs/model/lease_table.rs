//! The leases of a job: who fetches or compares which chunks now.
//!
//! Invariants:
//! - a fence names one lease for ever, and ascends: a report under a fence that is not in the table is stale;
//! - the span of a lease shrinks from its end, and never grows;
//! - no two live leases cover one chunk to fetch it, but for hedges. [`LeaseTable::truncate`] gives chunks up before they are granted
//!   again, and the scheduler grants nothing else but free chunks and hedges.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::{Duration, Instant},
};

use wire::{ChunkSet, job::SpanPurpose};

use super::{
    record::{JobChanges, LeaseRecord, LeaseTerms},
    worker_table::{WorkerIdx, WorkerTable},
};

/// Time that a lease lasts without a report.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(5);
/// Time without a report after which other workers may take what is left of a span.
const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// The longest wait of a worker between two attempts to report to a server that was away: after a restart, leases are measured
/// from this much later on.
const RESTART_ALLOWANCE: Duration = Duration::from_secs(1);
/// Time between the last moment at which an origin may answer a worker and the next report.
const REPORT_ALLOWANCE: Duration = Duration::from_secs(2);

/// Returns the time without a byte, though it is reported on, after which other workers may take all that is left of a span, begun
/// or not. It is longer than an origin may take for a connection and the head of its answer: a worker that waits for a slow origin
/// does not lose to another one, which waits as long, what is about to arrive. What is not begun is shared much earlier, and the
/// last chunks are hedged.
pub(crate) fn stuck_after(limits: origin::Limits) -> Duration {
    limits.connect_timeout + limits.head_timeout + REPORT_ALLOWANCE
}

/// Returns the seconds without a report after which a lease ends.
pub(crate) fn lease_seconds() -> u32 {
    u32::try_from(LEASE_DURATION.as_secs()).unwrap_or(u32::MAX)
}

/// Chunks to be given to a worker, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) chunks: Range<u32>,
    pub(crate) purpose: SpanPurpose,
    /// Set if the chunks are leased to another worker too.
    pub(crate) hedge: bool,
}

/// The right and the duty to fetch a span.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerIdx,
    /// The chunks that were granted.
    pub(crate) granted: Range<u32>,
    /// The present end: others may have taken the rest.
    pub(crate) end: u32,
    pub(crate) purpose: SpanPurpose,
    /// Set if it races another lease for its chunks.
    pub(crate) hedge: bool,
    /// The connections to the origin that it may use.
    pub(crate) connections: u8,
    /// Chunks that need not be fetched under it any more.
    done: ChunkSet,
    /// Bytes reported so far.
    bytes: u64,
    last_report: Instant,
    /// The time of the last new byte.
    pub(crate) last_progress: Instant,
}

impl Lease {
    /// Makes a lease that begins now.
    pub(crate) fn new(worker: WorkerIdx, assignment: Assignment, connections: u8, now: Instant) -> Self {
        let Assignment { chunks: granted, purpose, hedge } = assignment;
        let (end, done, bytes, last_report, last_progress) = (granted.end, ChunkSet::new(), 0, now, now);
        Self { worker, granted, end, purpose, hedge, connections, done, bytes, last_report, last_progress }
    }

    /// Returns the chunks that it still covers.
    pub(crate) const fn span(&self) -> Range<u32> {
        self.granted.start..self.end
    }

    /// Returns the chunks that it covers and that have not arrived.
    pub(crate) fn rest(&self) -> ChunkSet {
        if self.granted.start >= self.end { ChunkSet::new() } else { self.done.gaps(self.span()) }
    }

    /// Returns true if others may take what is left of it: no report or no byte arrives.
    pub(crate) fn is_suspect(&self, stuck_after: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last_report) >= SUSPECT_AFTER
            || now.saturating_duration_since(self.last_progress) >= stuck_after
    }

    fn is_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_report) >= LEASE_DURATION
    }

    pub(crate) fn is_fetch(&self) -> bool {
        self.purpose == SpanPurpose::Fetch
    }

    fn is_check(&self) -> bool {
        self.purpose == SpanPurpose::Check
    }
}

/// All leases of a job, by fence.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<u64, Lease>,
    changed: BTreeSet<u64>,
}

impl LeaseTable {
    /// Takes a lease in as it stood in the database; `held` are the chunks that some worker holds. Its time begins anew.
    pub(crate) fn restore(&mut self, record: LeaseRecord, worker: WorkerIdx, held: impl Fn(u32) -> bool, now: Instant) {
        let LeaseTerms { granted, end, purpose, hedge, connections } = record.terms;
        let granted = granted.0..granted.1;
        let done = granted.clone().filter(|n| purpose == SpanPurpose::Fetch && held(*n)).map(|n| n..n + 1).collect();
        let (bytes, last_progress, last_report) = (0, now, now + RESTART_ALLOWANCE);
        let lease =
            Lease { worker, granted, end, purpose, hedge, connections, done, bytes, last_report, last_progress };
        self.leases.insert(record.fence, lease);
    }

    pub(crate) fn get(&self, fence: u64) -> Option<&Lease> {
        self.leases.get(&fence)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.leases.iter().map(|(fence, lease)| (*fence, lease))
    }

    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Returns the leases under which chunks are fetched for the first time.
    pub(crate) fn fetches(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.iter().filter(|(_, lease)| lease.is_fetch())
    }

    pub(crate) fn of_worker(&self, worker: WorkerIdx) -> impl Iterator<Item = (u64, &Lease)> {
        self.iter().filter(move |(_, lease)| lease.worker == worker)
    }

    /// Returns the connections to the origin that all leases may use.
    pub(crate) fn connections(&self) -> u32 {
        self.leases.values().map(|lease| u32::from(lease.connections)).sum()
    }

    pub(crate) fn has_checks(&self) -> bool {
        self.leases.values().any(Lease::is_check)
    }

    /// Returns the chunks that workers compare now.
    pub(crate) fn under_check(&self) -> ChunkSet {
        let checks = self.leases.values().filter(|lease| lease.is_check());
        checks.flat_map(|lease| lease.rest().iter().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn is_under_check(&self, n: u32) -> bool {
        self.leases.values().any(|lease| lease.is_check() && lease.rest().contains(n))
    }

    /// Adds a lease that is granted now.
    pub(crate) fn insert(&mut self, fence: u64, lease: Lease) {
        self.leases.insert(fence, lease);
        self.changed.insert(fence);
    }

    /// Takes up to `max` chunks from the end of what is left of a lease.
    pub(crate) fn truncate(&mut self, fence: u64, max: u32) -> Option<Range<u32>> {
        let lease = self.leases.get_mut(&fence)?;
        let run = lease.rest().iter().last()?;
        let start = run.start.max(run.end.saturating_sub(max));
        lease.end = start;
        if lease.rest().is_empty() {
            self.end(fence);
        } else {
            self.changed.insert(fence);
        }
        Some(start..run.end)
    }

    /// Notes a report with the bytes since the lease began; returns how many of them are new.
    pub(crate) fn note_report(&mut self, fence: u64, bytes: u64, now: Instant) -> u64 {
        let Some(lease) = self.leases.get_mut(&fence) else { return 0 };
        let new = bytes.saturating_sub(lease.bytes);
        lease.bytes = lease.bytes.max(bytes);
        lease.last_report = now;
        if new > 0 {
            lease.last_progress = now;
        }
        new
    }

    /// Notes that a chunk arrived under a lease; returns false if that was known, or the lease has ended.
    pub(crate) fn note_chunk(&mut self, fence: u64, n: u32) -> bool {
        let Some(lease) = self.leases.get_mut(&fence).filter(|lease| !lease.done.contains(n)) else { return false };
        lease.done.insert(n..n + 1);
        true
    }

    /// Notes that a chunk arrived under another lease: the workers that fetch it too need not.
    pub(crate) fn note_chunk_elsewhere(&mut self, arrived_under: u64, n: u32) {
        for (fence, lease) in &mut self.leases {
            if *fence != arrived_under && lease.is_fetch() && lease.span().contains(&n) {
                lease.done.insert(n..n + 1);
            }
        }
    }

    pub(crate) fn end(&mut self, fence: u64) {
        self.leases.remove(&fence);
        self.changed.insert(fence);
    }

    pub(crate) fn end_all(&mut self) {
        self.end_where(|_| true);
    }

    pub(crate) fn end_of_worker(&mut self, worker: WorkerIdx) {
        self.end_where(|lease| lease.worker == worker);
    }

    pub(crate) fn end_expired(&mut self, now: Instant) {
        self.end_where(|lease| lease.is_expired(now));
    }

    fn end_where(&mut self, ends: impl Fn(&Lease) -> bool) {
        let ended: Vec<u64> = self.iter().filter(|(_, lease)| ends(lease)).map(|(fence, _)| fence).collect();
        ended.into_iter().for_each(|fence| self.end(fence));
    }

    pub(crate) fn discard_changes(&mut self) {
        self.changed.clear();
    }

    pub(crate) fn take_changes(&mut self, workers: &WorkerTable, into: &mut JobChanges) {
        for fence in std::mem::take(&mut self.changed) {
            match self.record(fence, workers) {
                Some(record) => into.leases.push(record),
                None => into.ended_leases.push(fence),
            }
        }
    }

    fn record(&self, fence: u64, workers: &WorkerTable) -> Option<LeaseRecord> {
        let lease = self.get(fence)?;
        let granted = (lease.granted.start, lease.granted.end);
        let Lease { end, purpose, hedge, connections, .. } = *lease;
        let server = workers.server(Some(lease.worker))?;
        Some(LeaseRecord { fence, server, terms: LeaseTerms { granted, end, purpose, hedge, connections } })
    }

    #[cfg(test)]
    pub(crate) fn mark_all(&mut self) {
        self.changed = self.leases.keys().copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time between two reports of bytes alone, as file servers send them.
    const REPORT_INTERVAL: Duration = Duration::from_secs(1);

    fn table(now: Instant) -> LeaseTable {
        let mut table = LeaseTable::default();
        let worker = WorkerTable::default().find_or_insert(&"fs-0".parse().unwrap());
        table.insert(
            1,
            Lease::new(worker, Assignment { chunks: 0..64, purpose: SpanPurpose::Fetch, hedge: false }, 1, now),
        );
        table
    }

    #[test]
    fn a_worker_that_waits_as_long_as_an_origin_may_take_is_not_robbed() {
        let limits = origin::Limits::default();
        let start = Instant::now();
        let mut table = table(start);
        let origin_timeout = limits.connect_timeout + limits.head_timeout;
        let mut now = start;
        while now < start + origin_timeout + REPORT_INTERVAL {
            now += REPORT_INTERVAL;
            table.note_report(1, 0, now);
            assert!(
                !table.get(1).unwrap().is_suspect(stuck_after(limits), now),
                "{:?} without a byte",
                now.duration_since(start)
            );
        }
        // Longer than any origin may take, nothing comes.
        let stuck = start + stuck_after(limits);
        table.note_report(1, 0, stuck);
        let lease = table.get(1).unwrap();
        assert!(lease.is_suspect(stuck_after(limits), stuck) && !lease.is_expired(stuck));
    }

    #[test]
    fn silence_makes_suspect_long_before_it_ends_a_lease() {
        let now = Instant::now();
        let table = table(now);
        let lease = table.get(1).unwrap();
        let stuck_after = stuck_after(origin::Limits::default());
        let is_suspect = |after| lease.is_suspect(stuck_after, now + after);
        assert!(!is_suspect(SUSPECT_AFTER / 2) && is_suspect(SUSPECT_AFTER));
        assert!(!lease.is_expired(now + SUSPECT_AFTER));
        assert!(lease.is_expired(now + LEASE_DURATION));
    }
}
