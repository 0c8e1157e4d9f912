//! Claims: which worker may have a lease, and what it costs.

use std::{ops::Range, time::Instant};

use wire::{ServerId, Zone, job::JobState};

use super::Job;
use crate::jobs::model::{
    lease_table::{Assignment, Lease},
    moment::Moment,
    worker_table::{LiveServer, WorkerIdx},
};

impl Job {
    /// Returns true if servers of a zone may work on the job.
    pub(crate) fn admits(&self, zone: &Zone) -> bool {
        self.record.admits(zone)
    }

    /// Returns true while workers can be given leases.
    pub(crate) const fn has_work(&self) -> bool {
        matches!(self.record.state, JobState::Running | JobState::Checking)
    }

    /// Takes a file server in as a worker, or back after it was dead; returns its index, none if it is excluded.
    pub(crate) fn admit_worker(&mut self, server: &ServerId, live: &LiveServer, now: Moment) -> Option<WorkerIdx> {
        let idx = self.workers.find_or_insert(server);
        if self.workers.get(idx).is_some_and(|worker| worker.excluded) {
            return None;
        }
        if self.workers.admit(idx, live) {
            self.refresh_wanted(now.at);
        }
        Some(idx)
    }

    /// Notes that a worker claims a lease.
    pub(crate) fn note_claim(&mut self, worker: WorkerIdx, now: Instant) {
        let idle = self.leases.of_worker(worker).next().is_none();
        self.workers.note_claim(worker, idle, now);
    }

    /// Returns true if a worker may be given a further lease, of `max_leases` at once.
    pub(crate) fn may_lease(&self, worker: WorkerIdx, max_leases: usize, now: Instant) -> bool {
        let rests = self.workers.get(worker).is_none_or(|worker| worker.rests(now));
        let leases = self.leases.of_worker(worker).count();
        leases < max_leases && !rests && self.workers.is_eligible(worker) && self.is_open()
    }

    /// Grants a lease; returns its fence. `connections` is what the origin may still take.
    pub(crate) fn grant(&mut self, worker: WorkerIdx, assignment: Assignment, connections: u32, now: Moment) -> u64 {
        let connections = u8::try_from(connections).unwrap_or(u8::MAX).min(self.record.connections);
        let duplicate_bytes = if assignment.hedge { self.bytes_of(assignment.chunks.clone()) } else { 0 };
        self.update_record(|record| {
            record.fence += 1;
            record.duplicate_bytes = record.duplicate_bytes.saturating_add(duplicate_bytes);
        });
        let fence = self.record.fence;
        self.leases.insert(fence, Lease::new(worker, assignment, connections, now.at));
        fence
    }

    /// Takes up to `max` chunks from the end of another worker's lease, to grant them anew.
    pub(crate) fn truncate_lease(&mut self, fence: u64, max: u32) -> Option<Range<u32>> {
        self.leases.truncate(fence, max)
    }

    /// Returns the bytes of a run of chunks.
    pub(super) fn bytes_of(&self, run: Range<u32>) -> u64 {
        self.layout().map_or(0, |layout| {
            let bytes = layout.bytes_of_run(run);
            bytes.end.saturating_sub(bytes.start)
        })
    }

    /// Returns the bytes that may be requested a second time: 2 % of all, or two chunks.
    fn duplicate_allowance(&self) -> u64 {
        let size = self.record.content.as_ref().map_or(0, |content| content.size);
        (size / 50).max(self.chunk_size().saturating_mul(2))
    }

    /// Returns the part of the allowance that is left.
    pub(super) fn spare_duplicate_bytes(&self) -> u64 {
        self.duplicate_allowance().saturating_sub(self.record.duplicate_bytes)
    }

    /// Returns true if one more chunk may be hedged: the allowance suffices, beside what is reserved for samples.
    pub(crate) fn may_hedge(&self) -> bool {
        let chunk_size = self.chunk_size();
        let allowed_chunks = self.duplicate_allowance() / chunk_size;
        let reserved = self.verifier.sampler().reserved_chunks(&self.chunks, &self.leases, allowed_chunks);
        self.spare_duplicate_bytes() >= chunk_size.saturating_add(reserved.saturating_mul(chunk_size))
    }
}
