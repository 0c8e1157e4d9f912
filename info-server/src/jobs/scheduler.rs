//! The choice of a span for a worker that claims a lease. Pure.
//!
//! Spans are sized to what a worker fetches in about two seconds, and smaller towards the end, so that all workers end together. The
//! order: checks; chunks that no lease covers; what is left of spans whose worker is suspect; a share of the span that would end
//! last (a steal); a hedge of one of the last chunks.
//!
//! Invariant: chunks under a live lease are assigned again only after they were taken from it, or as a hedge that the allowance of
//! duplicate bytes pays for; no chunk is hedged twice.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use wire::{ChunkSet, job::SpanPurpose};

use super::model::{
    job::Job,
    lease_table::{Assignment, Lease},
    moment::Moment,
    transfer_rate::{ceil_to_count, to_float},
    worker_table::WorkerIdx,
};

/// Seconds for which one span is to keep a worker busy.
const TARGET_SPAN_SECONDS: f64 = 2.0;
const MAX_SPAN_CHUNKS: u32 = 64;
/// Chunks in the first span of a worker whose rate is not known yet.
const FIRST_SPAN_CHUNKS: u32 = 4;
/// Leases of one worker: the second one is claimed before the first one ends, so that its connections never idle.
const MAX_LEASES_PER_WORKER: usize = 2;
/// Seconds for which a worker goes on with a span before it receives the answer that the span is shorter.
const TRUNCATION_DELAY_SECONDS: f64 = 0.7;
/// A span that ends sooner than this, in seconds, is left alone.
const MIN_STEAL_SECONDS: f64 = 0.7;
/// Factor by which a hedge must be expected to win.
const HEDGE_FACTOR: f64 = 2.0;
/// Seconds for which a chunk must have been under way before it is hedged, if its worker's rate is not known.
const HEDGE_AFTER_SECONDS: f64 = 2.0;

/// The bounds within which a lease is granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct GrantBounds {
    /// Connections that the origin may still take.
    pub(super) connections: u32,
    /// Time without a byte after which a worker's span is taken from it.
    pub(super) stuck_after: Duration,
}

/// Grants a worker a lease, if there is anything for it; returns the fence.
pub(super) fn claim(job: &mut Job, worker: WorkerIdx, bounds: GrantBounds, now: Moment) -> Option<u64> {
    let GrantBounds { connections, stuck_after } = bounds;
    job.note_claim(worker, now.at);
    if connections == 0 || !job.may_lease(worker, MAX_LEASES_PER_WORKER, now.at) {
        return None;
    }
    let assignment = next_assignment(job, worker, stuck_after, now.at)?;
    Some(job.grant(worker, assignment, connections, now))
}

fn next_assignment(job: &mut Job, worker: WorkerIdx, stuck_after: Duration, now: Instant) -> Option<Assignment> {
    let fetch = |chunks| Assignment { chunks, purpose: SpanPurpose::Fetch, hedge: false };
    if let Some(chunks) = job.next_check(worker) {
        return Some(Assignment { chunks, purpose: SpanPurpose::Check, hedge: false });
    }
    let planner = Planner { job, worker, stuck_after, now };
    if let Some(chunks) = planner.free_span() {
        return Some(fetch(chunks));
    }
    if let Some(chunks) = planner.suspect_rest().and_then(|take| job.truncate_lease(take.fence, take.max_chunks)) {
        return Some(fetch(chunks));
    }
    let planner = Planner { job, worker, stuck_after, now };
    if let Some(chunks) = planner.steal().and_then(|take| job.truncate_lease(take.fence, take.max_chunks)) {
        return Some(fetch(chunks));
    }
    let chunks = Planner { job, worker, stuck_after, now }.hedge()?;
    Some(Assignment { chunks, purpose: SpanPurpose::Fetch, hedge: true })
}

/// Chunks to be taken from the end of a lease.
struct Truncation {
    fence: u64,
    max_chunks: u32,
}

/// A job, as it looks to one worker.
struct Planner<'a> {
    job: &'a Job,
    worker: WorkerIdx,
    stuck_after: Duration,
    now: Instant,
}

impl Planner<'_> {
    fn rate(&self, worker: WorkerIdx) -> f64 {
        self.job.workers().rate(worker)
    }

    fn chunk_size(&self) -> f64 {
        to_float(self.job.chunk_size())
    }

    fn fetches(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.job.leases().fetches()
    }

    /// Returns the number of chunks to give the worker at once, of `available` ones.
    fn span_length(&self, available: u32) -> u32 {
        let rate = self.rate(self.worker);
        let by_rate = if rate > 0.0 {
            let chunks = ceil_to_count(rate * TARGET_SPAN_SECONDS / self.chunk_size());
            u32::try_from(chunks).unwrap_or(MAX_SPAN_CHUNKS).min(MAX_SPAN_CHUNKS)
        } else {
            FIRST_SPAN_CHUNKS
        };
        let fair = available / self.job.workers().eligible_count().saturating_mul(2);
        by_rate.min(fair).max(1)
    }

    /// Returns wanted chunks that no lease covers.
    fn free_span(&self) -> Option<Range<u32>> {
        let mut free: ChunkSet = self.job.chunks().wanted().clone();
        self.fetches().for_each(|(_, lease)| free.remove(lease.span()));
        let run = free.iter().next()?;
        let end = run.end.min(run.start.saturating_add(self.span_length(free.len())));
        Some(run.start..end)
    }

    /// Returns a share of what is left of a lease whose worker is suspect.
    fn suspect_rest(&self) -> Option<Truncation> {
        let suspects: Vec<(u64, u32)> = self
            .fetches()
            .filter(|(_, lease)| lease.is_suspect(self.stuck_after, self.now) && !lease.hedge)
            .map(|(fence, lease)| (fence, lease.rest().len()))
            .collect();
        let all = suspects.iter().fold(0_u32, |sum, (_, rest)| sum.saturating_add(*rest));
        let (fence, _) = suspects.into_iter().find(|(_, rest)| *rest > 0)?;
        Some(Truncation { fence, max_chunks: self.span_length(all) })
    }

    /// Returns the number of chunks that a worker still has to fetch, up to the end of one of its leases.
    fn backlog(&self, worker: WorkerIdx, up_to: u64) -> u32 {
        let own = self.fetches().filter(|(fence, lease)| lease.worker == worker && *fence <= up_to);
        own.fold(0, |sum, (_, lease)| sum + lease.rest().len())
    }

    /// Returns the seconds until a lease is fetched; infinite while its worker's rate is not known.
    fn seconds_left(&self, fence: u64, lease: &Lease) -> f64 {
        let bytes = to_float(u64::from(self.backlog(lease.worker, fence)) * self.job.chunk_size());
        let rate = self.rate(lease.worker);
        if rate > 0.0 { bytes / rate } else { f64::INFINITY }
    }

    /// Returns the number of chunks of a lease that its worker will not have begun when it receives the answer that they are taken.
    fn untouched(&self, fence: u64, lease: &Lease) -> u32 {
        let rest = lease.rest().len();
        let is_queued = self.fetches().any(|(other, before)| before.worker == lease.worker && other < fence);
        let chunks = ceil_to_count(self.rate(lease.worker) * TRUNCATION_DELAY_SECONDS / self.chunk_size());
        let until_answer = u32::try_from(chunks).unwrap_or(u32::MAX);
        // A queued lease is claimed when connections of the worker come free: each of them begins with a chunk of it.
        let begun = if is_queued { 0 } else { until_answer }.max(u32::from(lease.connections));
        rest.saturating_sub(begun)
    }

    /// Returns a share of the span that would end last, as large as the rates of both workers make it.
    fn steal(&self) -> Option<Truncation> {
        let candidates = self
            .fetches()
            .filter(|(_, lease)| lease.worker != self.worker && !lease.hedge)
            .map(|(fence, lease)| (fence, lease, self.untouched(fence, lease), self.seconds_left(fence, lease)))
            .filter(|(_, _, untouched, seconds)| *untouched > 0 && *seconds > MIN_STEAL_SECONDS);
        let (fence, lease, untouched, _) = candidates.max_by(|a, b| a.3.total_cmp(&b.3))?;
        let (own, theirs) = (self.rate(self.worker), self.rate(lease.worker));
        let share = if own > 0.0 && theirs > 0.0 { own / (own + theirs) } else { 0.5 };
        let chunks = u32::try_from(ceil_to_count(to_float(u64::from(untouched)) * share)).unwrap_or(1);
        Some(Truncation { fence, max_chunks: chunks.clamp(1, untouched.min(MAX_SPAN_CHUNKS)) })
    }

    /// Returns one of the last chunks, if this worker is likely to fetch it sooner than the one that has its lease.
    fn hedge(&self) -> Option<Range<u32>> {
        if !self.job.may_hedge() {
            return None;
        }
        let own = self.rate(self.worker);
        let own_seconds = if own > 0.0 { self.chunk_size() / own } else { HEDGE_AFTER_SECONDS / HEDGE_FACTOR };
        let is_hedged = |n: u32| self.fetches().any(|(_, lease)| lease.hedge && lease.span().contains(&n));
        let is_worthwhile = |seconds: f64, lease: &Lease| {
            let waited = self.now.saturating_duration_since(lease.last_progress).as_secs_f64();
            seconds.is_finite() && seconds > own_seconds * HEDGE_FACTOR || seconds.is_infinite() && waited > own_seconds
        };
        let (_, n) = self
            .fetches()
            .filter(|(_, lease)| lease.worker != self.worker && !lease.hedge)
            .map(|(fence, lease)| (self.seconds_left(fence, lease), lease))
            .filter(|(seconds, lease)| is_worthwhile(*seconds, lease))
            .filter_map(|(seconds, lease)| Some((seconds, lease.rest().iter().last()?.end - 1)))
            .filter(|(_, n)| !is_hedged(*n))
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(n..n + 1)
    }
}
