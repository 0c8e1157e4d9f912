//! What workers tell of their leases. Pure.

use std::time::{Duration, Instant};

use wire::{
    Digest,
    job::{ChunkDigest, LeaseReport, Purpose, Reason, SpanFailure},
};

use super::{
    effects::Effect,
    job::{Job, Moment},
};

/// Failures in a row after which a worker gets no more spans of the job.
const FAILURES: u32 = 3;
/// Rest after a failure, times the failures in a row.
const REST: Duration = Duration::from_millis(500);
/// Nobody else got anything for so long, two reports' time: then it is the origin that is away, not one worker that is cut off. It
/// may stay away up to [`OUTAGE`]; meanwhile each worker tries as often as [`OUTAGE_REST`] says.
const SILENT: Duration = Duration::from_secs(2);
const OUTAGE: Duration = Duration::from_secs(90);
const OUTAGE_REST: Duration = Duration::from_secs(2);

/// What becomes of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The lease goes on, with this span.
    Goes(std::ops::Range<u32>),
    /// All of it was reported, or it was given up.
    Ended,
    /// The lease was over before.
    Stale,
    /// A chunk that was never given out under it.
    Foreign(u32),
}

impl Job {
    /// Takes in a report on a lease; and how many of its bytes are new.
    pub(crate) fn report(&mut self, seat: usize, fence: u64, report: &LeaseReport, now: Moment) -> (Told, u64) {
        let Some(lease) = self.leases.get(&fence).filter(|lease| lease.seat == seat) else {
            return (Told::Stale, 0);
        };
        let (granted, purpose) = (lease.granted.clone(), lease.purpose);
        if let Some(foreign) = report.chunks.iter().find(|chunk| !granted.contains(&chunk.n)) {
            return (Told::Foreign(foreign.n), 0);
        }
        let bytes = self.count_bytes(seat, fence, report.bytes, now);
        for ChunkDigest { n, sha256 } in &report.chunks {
            self.take_in(seat, fence, (*n, *sha256, purpose), now);
        }
        if let Some(failure) = &report.failed {
            self.end_lease(fence);
            self.fail(seat, failure, now);
        }
        self.settle(now);
        let Some(lease) = self.leases.get(&fence) else { return (Told::Ended, bytes) };
        if lease.rest().is_empty() {
            self.end_lease(fence);
            return (Told::Ended, bytes);
        }
        (Told::Goes(lease.span()), bytes)
    }

    fn count_bytes(&mut self, seat: usize, fence: u64, bytes: u64, now: Moment) -> u64 {
        let Some(lease) = self.leases.get_mut(&fence) else { return 0 };
        let fresh = bytes.saturating_sub(lease.bytes);
        lease.bytes = lease.bytes.max(bytes);
        lease.heard = now.at;
        if fresh > 0 {
            lease.moved = now.at;
            self.moved = now.at;
        }
        if let Some(worker) = self.worker_mut(seat) {
            worker.seen = Some(now.at);
            worker.bytes = worker.bytes.saturating_add(fresh);
            worker.rate.add(fresh, now.at);
        }
        fresh
    }

    fn take_in(&mut self, seat: usize, fence: u64, (n, digest, purpose): (u32, Digest, Purpose), now: Moment) {
        let Some(lease) = self.leases.get_mut(&fence) else { return };
        if lease.done.contains(n) {
            return;
        }
        lease.done.insert(n..n + 1);
        self.moved = now.at;
        self.trouble = None;
        if let Some(worker) = self.workers.get_mut(seat) {
            worker.failures = 0;
        }
        self.accept(n, seat, (digest, purpose), now);
        if purpose == Purpose::Fetch && self.chunk(n).is_some_and(|chunk| chunk.holder.is_some()) {
            // Whoever else fetches it need not.
            for (other, lease) in &mut self.leases {
                if *other != fence && lease.is_fetch() && lease.span().contains(&n) {
                    lease.done.insert(n..n + 1);
                }
            }
        }
    }

    fn accept(&mut self, n: u32, seat: usize, (digest, purpose): (Digest, Purpose), now: Moment) {
        let fetched = purpose == Purpose::Fetch;
        if self.checks.is_disputed(n) {
            self.testify(n, (Some(seat), digest, fetched), now);
            return;
        }
        let Some(chunk) = self.chunk(n).cloned() else { return };
        let held = chunk.holder.is_some_and(|holder| self.serves(holder));
        match chunk.digest {
            None if fetched => self.change(
                n,
                |chunk| (chunk.digest, chunk.first, chunk.holder) = (Some(digest), Some(seat), Some(seat)),
                now.at,
            ),
            None => {}
            Some(known) if known == digest => {
                let other = chunk.first != Some(seat);
                self.checks.examined(n);
                if (other && !chunk.confirmed) || (fetched && !held) {
                    self.change(
                        n,
                        |chunk| {
                            chunk.confirmed |= other;
                            chunk.first = chunk.first.or(Some(seat));
                            if fetched && !held {
                                chunk.holder = Some(seat);
                            }
                        },
                        now.at,
                    );
                }
            }
            // Two others agree, or it contradicts itself.
            Some(_) if chunk.confirmed || chunk.first == Some(seat) => self.convict(seat, now),
            Some(known) => self.dispute(n, known, (Some(seat), digest, fetched), now),
        }
    }

    fn fail(&mut self, seat: usize, failure: &SpanFailure, now: Moment) {
        match failure.reason {
            // The origin's doing: it is given a pause, and nobody is blamed.
            Reason::Busy => self.trouble = Some(Reason::Busy),
            // It gave chunks, and now nobody gets any: it is away, not the worker cut off.
            Reason::Unreachable if self.origin_is_away(now.at) => {
                self.trouble = Some(Reason::Unreachable);
                if let Some(worker) = self.workers.get_mut(seat) {
                    worker.rests_until = Some(now.at + OUTAGE_REST);
                }
            }
            Reason::Changed => {
                if self.doubt.is_none() {
                    self.doubt = Some(seat);
                    self.follow(Effect::Probe);
                }
                self.blame(seat, now);
            }
            _ => self.blame(seat, now),
        }
    }

    /// Whether nothing comes from the origin any more, though it did, and not for so long yet that it is given up.
    fn origin_is_away(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.moved);
        self.chunks.iter().any(|chunk| chunk.first.is_some()) && (SILENT..OUTAGE).contains(&silent)
    }

    /// Counts a failure against a worker.
    pub(crate) fn blame(&mut self, seat: usize, now: Moment) {
        let Some(worker) = self.worker_mut(seat) else { return };
        // What fails together, as both leases of a worker do, is one failure.
        if worker.rests_until.is_some_and(|until| now.at < until) {
            return;
        }
        worker.failures += 1;
        worker.rests_until = Some(now.at + REST * worker.failures.min(FAILURES));
        if worker.failures >= FAILURES && !worker.excluded {
            worker.excluded = true;
            tracing::warn!(server = %worker.server, "a worker failed too often at a job and gets no more of its spans");
            self.drop_leases_of(seat);
            self.refresh_all(now.at);
        }
    }

    pub(crate) fn drop_leases_of(&mut self, seat: usize) {
        let own = self.leases.iter().filter(|(_, lease)| lease.seat == seat);
        let fences: Vec<u64> = own.map(|(fence, _)| *fence).collect();
        fences.into_iter().for_each(|fence| self.end_lease(fence));
    }
}
