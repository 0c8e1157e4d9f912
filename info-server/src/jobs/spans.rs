//! Who fetches what. Pure.
//!
//! Spans are sized to what a worker fetches in about two seconds, and smaller towards the end, so that all end together. What
//! nobody has a lease for comes first; then what is left of spans whose worker is not heard of; then a share of the span
//! that would end last; then a bet on one of the last chunks.

use std::{ops::Range, time::Instant};

use wire::{Runs, job::Purpose};

use super::{
    job::{Job, Moment},
    lease::{Lease, real, whole},
};

/// What a span is to keep a worker busy for, in seconds.
const SPAN_SECONDS: f64 = 2.0;
/// Chunks in one span at most.
pub(crate) const MAX_SPAN: u32 = 64;
/// Chunks in the first span of a worker whose rate is not known yet.
const FIRST_SPAN: u32 = 4;
/// Leases of one worker: the second one is claimed before the first one ends, so that its line never idles.
const LEASES: usize = 2;
/// What a worker may fetch of a span before it hears that the span is shorter, in seconds.
const LAG: f64 = 0.7;
/// A span that ends sooner than this, in seconds, is left alone.
const WORTHWHILE: f64 = 0.7;
/// How much faster a bet must be expected to win, and how long a chunk must have been under way if no rate is known.
const BET_FACTOR: f64 = 2.0;
const BET_SECONDS: f64 = 2.0;

impl Job {
    /// Gives a worker something to do, if there is; the lease's number. `connections` is what the origin may still take.
    pub(crate) fn claim(&mut self, seat: usize, connections: u32, now: Moment) -> Option<u64> {
        if let Some(worker) = self.workers.get_mut(seat) {
            if self.leases.values().all(|lease| lease.seat != seat) {
                worker.rate.begin(now.at);
            }
            worker.seen = Some(now.at);
        }
        let held = self.leases.values().filter(|lease| lease.seat == seat).count();
        let rests = self.workers.get(seat).and_then(|worker| worker.rests_until).is_some_and(|until| now.at < until);
        if held >= LEASES || connections == 0 || rests || !self.is_able(seat) || !self.is_open() {
            return None;
        }
        let found = self
            .check_for(seat)
            .map(|run| (run, Purpose::Check, false))
            .or_else(|| self.free_span(seat).map(|run| (run, Purpose::Fetch, false)))
            .or_else(|| self.suspect_rest(seat, now.at).map(|run| (run, Purpose::Fetch, false)))
            .or_else(|| self.late_rest(seat).map(|run| (run, Purpose::Fetch, false)))
            .or_else(|| self.bet(seat, now.at).map(|run| (run, Purpose::Fetch, true)));
        let (run, purpose, bet) = found?;
        Some(self.grant(seat, run, (purpose, bet, connections), now))
    }

    fn grant(&mut self, seat: usize, run: Range<u32>, how: (Purpose, bool, u32), now: Moment) -> u64 {
        let (purpose, bet, allowed) = how;
        let connections = u8::try_from(allowed).unwrap_or(u8::MAX).min(self.row.connections);
        self.change_row(|row| row.fence += 1);
        let (fence, end) = (self.row.fence, run.end);
        if bet {
            let bytes = self.bytes_of(&run);
            self.change_row(|row| row.wasted = row.wasted.saturating_add(bytes));
        }
        let (done, bytes, heard, moved, granted) = (Runs::new(), 0, now.at, now.at, run);
        let lease = Lease { seat, granted, end, purpose, bet, connections, done, bytes, heard, moved };
        self.leases.insert(fence, lease);
        self.note_lease(fence);
        fence
    }

    /// Bytes in a run of chunks.
    pub(crate) fn bytes_of(&self, run: &Range<u32>) -> u64 {
        let layout = self.row.content.as_ref().and_then(|content| content.layout());
        layout.map_or(0, |layout| {
            let bytes = layout.bytes_of_run(run.clone());
            bytes.end.saturating_sub(bytes.start)
        })
    }

    /// Bytes that may be asked for a second time: 2 % of all, or two chunks.
    pub(crate) fn allowance(&self) -> u64 {
        let size = self.row.content.as_ref().map_or(0, |content| content.size);
        (size / 50).max(self.chunk_size().saturating_mul(2))
    }

    /// Those of them that are left.
    pub(crate) fn spare(&self) -> u64 {
        self.allowance().saturating_sub(self.row.wasted)
    }

    fn fetches(&self) -> impl Iterator<Item = (&u64, &Lease)> {
        self.leases.iter().filter(|(_, lease)| lease.is_fetch())
    }

    /// Wanted chunks that nobody has a lease for.
    pub(crate) fn free(&self) -> Runs {
        let mut free = self.wanted.clone();
        self.fetches().for_each(|(_, lease)| free.remove(lease.span()));
        free
    }

    /// How many may share the rest.
    fn able(&self) -> u32 {
        let able = self.workers.iter().filter(|worker| worker.live && !worker.excluded).count();
        u32::try_from(able).unwrap_or(u32::MAX).max(1)
    }

    fn rate(&self, seat: usize) -> f64 {
        self.workers.get(seat).map_or(0.0, |worker| worker.rate.value())
    }

    /// How many chunks a worker is given at once.
    fn length(&self, seat: usize, free: u32) -> u32 {
        let rate = self.rate(seat);
        let by_rate = if rate > 0.0 {
            let chunks = whole(rate * SPAN_SECONDS / real(self.chunk_size()));
            u32::try_from(chunks).unwrap_or(MAX_SPAN).min(MAX_SPAN)
        } else {
            FIRST_SPAN
        };
        by_rate.min(free / self.able().saturating_mul(2)).max(1)
    }

    fn free_span(&self, seat: usize) -> Option<Range<u32>> {
        let free = self.free();
        let run = free.iter().next()?;
        let end = run.end.min(run.start.saturating_add(self.length(seat, free.len())));
        Some(run.start..end)
    }

    /// Takes from the end of what is left of a lease, up to `most` chunks.
    fn cut(&mut self, fence: u64, most: u32) -> Option<Range<u32>> {
        let lease = self.leases.get_mut(&fence)?;
        let run = lease.rest().iter().last()?;
        let start = run.start.max(run.end.saturating_sub(most));
        lease.end = start;
        if lease.rest().is_empty() {
            self.end_lease(fence);
        } else {
            self.note_lease(fence);
        }
        Some(start..run.end)
    }

    fn suspect_rest(&mut self, seat: usize, now: Instant) -> Option<Range<u32>> {
        let suspects: Vec<(u64, u32)> = self
            .fetches()
            .filter(|(_, lease)| lease.is_suspect(now) && !lease.bet)
            .map(|(fence, lease)| (*fence, lease.rest().len()))
            .collect();
        let all = suspects.iter().fold(0_u32, |sum, (_, rest)| sum.saturating_add(*rest));
        let (fence, _) = suspects.into_iter().find(|(_, rest)| *rest > 0)?;
        let length = self.length(seat, all);
        self.cut(fence, length)
    }

    /// Chunks of a worker's leases that are still to come, before and with a lease.
    fn backlog(&self, seat: usize, up_to: u64) -> u32 {
        let own = self.fetches().filter(|(fence, lease)| lease.seat == seat && **fence <= up_to);
        own.fold(0, |sum, (_, lease)| sum + lease.rest().len())
    }

    /// Seconds until a worker is through with a lease, as far as can be told.
    fn eta(&self, fence: u64, lease: &Lease) -> f64 {
        let bytes = real(u64::from(self.backlog(lease.seat, fence)) * self.chunk_size());
        let rate = self.rate(lease.seat);
        if rate > 0.0 { bytes / rate } else { f64::INFINITY }
    }

    /// Chunks of a lease that its worker has not begun, and will not before it hears of it.
    fn untouched(&self, fence: u64, lease: &Lease) -> u32 {
        let rest = lease.rest().len();
        let queued = self.fetches().any(|(other, before)| before.seat == lease.seat && *other < fence);
        let lag = u32::try_from(whole(self.rate(lease.seat) * LAG / real(self.chunk_size()))).unwrap_or(u32::MAX);
        // A queued one is claimed when the worker's lines come free: each of them begins with a chunk of it.
        let begun = if queued { 0 } else { lag }.max(u32::from(lease.connections));
        rest.saturating_sub(begun)
    }

    fn late_rest(&mut self, seat: usize) -> Option<Range<u32>> {
        let own = self.rate(seat);
        let latest = self
            .fetches()
            .filter(|(fence, lease)| lease.seat != seat && !lease.bet && self.untouched(**fence, lease) > 0)
            .map(|(fence, lease)| (*fence, lease.seat, self.eta(*fence, lease), self.untouched(*fence, lease)))
            .filter(|(_, _, eta, _)| *eta > WORTHWHILE)
            .max_by(|a, b| a.2.total_cmp(&b.2))?;
        let (fence, slow, _, untouched) = latest;
        let theirs = self.rate(slow);
        let share = if own > 0.0 && theirs > 0.0 { own / (own + theirs) } else { 0.5 };
        let most = u32::try_from(whole(real(u64::from(untouched)) * share)).unwrap_or(1);
        self.cut(fence, most.clamp(1, untouched.min(MAX_SPAN)))
    }

    /// One of the last chunks, if another worker is likely to bring it sooner than the one that has it.
    fn bet(&self, seat: usize, now: Instant) -> Option<Range<u32>> {
        if self.spare() < self.chunk_size().saturating_add(self.kept_for_checks()) {
            return None;
        }
        let own = self.rate(seat);
        let mine = if own > 0.0 { real(self.chunk_size()) / own } else { BET_SECONDS / BET_FACTOR };
        let raced = |n: u32| self.fetches().any(|(_, lease)| lease.bet && lease.span().contains(&n));
        let worth = |fence: u64, lease: &Lease| {
            let eta = self.eta(fence, lease);
            let waited = now.saturating_duration_since(lease.moved).as_secs_f64();
            eta.is_finite() && eta > mine * BET_FACTOR || eta.is_infinite() && waited > mine
        };
        let candidate = self
            .fetches()
            .filter(|(fence, lease)| lease.seat != seat && !lease.bet && worth(**fence, lease))
            .filter_map(|(fence, lease)| Some((self.eta(*fence, lease), lease.rest().iter().last()?.end - 1)))
            .filter(|(_, n)| !raced(*n))
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(candidate.1..candidate.1 + 1)
    }
}
