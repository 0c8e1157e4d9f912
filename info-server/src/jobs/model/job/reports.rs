//! Reports of workers on their leases.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use wire::{
    Digest,
    job::{ChunkDigest, JobReason, LeaseReport, SpanFailure, SpanPurpose},
};

use super::Job;
use crate::jobs::model::{effect::Effect, moment::Moment, verifier::Vote, worker_table::WorkerIdx};

/// Pause of each worker between two attempts during an outage of the origin.
const OUTAGE_REST: Duration = Duration::from_secs(2);

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReportOutcome {
    /// The lease goes on, with this span.
    Renewed(Range<u32>),
    /// All of the span was reported, or it was given up.
    Ended,
    /// The lease had ended before.
    Stale,
    /// The report names a chunk that was never granted under the lease.
    Foreign(u32),
    /// The job has no work any more, for this reason.
    JobOver(Option<JobReason>),
}

/// A chunk that arrived under a lease.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    n: u32,
    digest: Digest,
    worker: WorkerIdx,
    fence: u64,
    purpose: SpanPurpose,
}

impl Job {
    /// Takes in a report on a lease; returns the answer, and how many of its bytes are new.
    pub(crate) fn report(
        &mut self,
        worker: WorkerIdx,
        fence: u64,
        report: &LeaseReport,
        now: Moment,
    ) -> (ReportOutcome, u64) {
        let Some(lease) = self.leases.get(fence).filter(|lease| lease.worker == worker) else {
            return (ReportOutcome::Stale, 0);
        };
        let (granted, purpose) = (lease.granted.clone(), lease.purpose);
        if let Some(foreign) = report.chunks.iter().find(|chunk| !granted.contains(&chunk.n)) {
            return (ReportOutcome::Foreign(foreign.n), 0);
        }
        let new_bytes = self.leases.note_report(fence, report.bytes, now.at);
        self.workers.note_report(worker, new_bytes, now.at);
        if new_bytes > 0 {
            self.timers.note_progress(now.at);
        }
        for ChunkDigest { n, sha256 } in &report.chunks {
            self.note_arrival(Arrival { n: *n, digest: *sha256, worker, fence, purpose }, now);
        }
        if let Some(failure) = &report.failed {
            self.leases.end(fence);
            self.note_failure(worker, failure, now);
        }
        self.update_state(now);
        let Some(lease) = self.leases.get(fence) else { return (ReportOutcome::Ended, new_bytes) };
        if lease.rest().is_empty() {
            self.leases.end(fence);
            return (ReportOutcome::Ended, new_bytes);
        }
        (ReportOutcome::Renewed(lease.span()), new_bytes)
    }

    fn note_arrival(&mut self, arrival: Arrival, now: Moment) {
        let Arrival { n, worker, fence, purpose, .. } = arrival;
        if !self.leases.note_chunk(fence, n) {
            return;
        }
        self.timers.note_progress(now.at);
        self.origin.trouble = None;
        self.workers.note_chunk(worker);
        self.accept_digest(arrival, now);
        if purpose == SpanPurpose::Fetch && self.chunks.get(n).is_some_and(|chunk| chunk.holder.is_some()) {
            self.leases.note_chunk_elsewhere(fence, n);
        }
    }

    fn accept_digest(&mut self, Arrival { n, digest, worker, purpose, .. }: Arrival, now: Moment) {
        let fetched = purpose == SpanPurpose::Fetch;
        let vote = Vote { worker: Some(worker), digest, holds: fetched };
        if self.verifier.has_conflict(n) {
            self.record_vote(n, vote, now);
            return;
        }
        let Some(chunk) = self.chunks.get(n).cloned() else { return };
        let held = chunk.holder.is_some_and(|holder| self.workers.is_live(holder));
        match chunk.digest {
            None if fetched => {
                self.chunks.record_first(n, digest, worker);
                self.refresh_chunk(n, now.at);
            }
            None => {}
            Some(known) if known == digest => {
                self.verifier.note_compared(n);
                let (confirms, holds) = (chunk.first != Some(worker) && !chunk.confirmed, fetched && !held);
                if confirms || holds {
                    self.chunks.record_agreement(n, worker, holds);
                    self.refresh_chunk(n, now.at);
                }
            }
            // Two other workers agree, or the worker contradicts itself.
            Some(_) if chunk.confirmed || chunk.first == Some(worker) => self.exclude_faulty(worker, now),
            Some(known) => self.open_conflict(n, known, vote, now),
        }
    }

    fn note_failure(&mut self, worker: WorkerIdx, failure: &SpanFailure, now: Moment) {
        match failure.reason {
            // The origin's doing: it is given a pause, and no worker is blamed.
            JobReason::Busy => self.origin.trouble = Some(JobReason::Busy),
            // It gave chunks, and now no worker gets any: the origin is away, not one worker cut off.
            JobReason::Unreachable if self.is_origin_away(now.at) => {
                self.origin.trouble = Some(JobReason::Unreachable);
                self.workers.rest(worker, now.at + OUTAGE_REST);
            }
            JobReason::Changed => {
                if !self.origin.change_suspected {
                    self.origin.change_suspected = true;
                    self.add_effect(Effect::ProbeOrigin);
                }
                self.blame(worker, now);
            }
            _ => self.blame(worker, now),
        }
    }

    fn is_origin_away(&self, now: Instant) -> bool {
        self.chunks.iter().any(|(_, chunk)| chunk.first.is_some()) && self.timers.is_in_outage(now)
    }

    /// Counts a failure against a worker.
    fn blame(&mut self, worker: WorkerIdx, now: Moment) {
        if !self.workers.note_failure(worker, now.at) {
            return;
        }
        if let Some(server) = self.workers.server(Some(worker)) {
            let job = self.record.id;
            tracing::warn!(%job, %server, "Worker {server} failed too often: it gets no more spans of job {job}");
        }
        self.leases.end_of_worker(worker);
        self.refresh_wanted(now.at);
    }
}
