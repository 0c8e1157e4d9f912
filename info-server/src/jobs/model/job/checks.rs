//! The consequences of checks: chunks to compare, conflicts decided, faulty workers excluded.

use std::{ops::Range, time::Instant};

use wire::{
    Digest,
    job::{JobReason, JobState},
};

use super::Job;
use crate::jobs::model::{
    chunk_table::Resolution,
    effect::Effect,
    moment::Moment,
    record::RetentionStage,
    verifier::{AfterRemoval, AfterVote, Vote},
    worker_table::WorkerIdx,
};

/// Arbitrations of one conflict, each a request of the info-server's own, after which the job fails.
const MAX_ARBITRATIONS: u32 = 3;

impl Job {
    /// Returns a chunk, or a few, for a worker to compare: a conflict first, then the full verification, then a sample.
    pub(crate) fn next_check(&mut self, worker: WorkerIdx) -> Option<Range<u32>> {
        if let Some(n) = self.verifier.conflict_for(worker, &self.leases) {
            return Some(n..n + 1);
        }
        if let Some(run) = self.verifier.full_verification_for(worker, &self.chunks, &self.leases) {
            return Some(run);
        }
        // A sample costs as much as a chunk.
        if self.spare_duplicate_bytes() < self.chunk_size() {
            return None;
        }
        let n = self.verifier.draw_sample(worker, &self.chunks, &self.leases)?;
        let bytes = self.bytes_of(n..n + 1);
        self.update_record(|record| record.duplicate_bytes = record.duplicate_bytes.saturating_add(bytes));
        Some(n..n + 1)
    }

    /// Returns true if something is still to be compared before the job is done.
    pub(super) fn is_check_due(&self, now: Instant) -> bool {
        if self.is_published() {
            return false;
        }
        if self.leases.has_checks() || self.record.full_verification {
            return true;
        }
        let affordable = self.spare_duplicate_bytes() >= self.chunk_size();
        affordable && self.verifier.sampler().is_due(&self.chunks, &self.leases, &self.workers, now)
    }

    /// Opens a conflict about a chunk between its first digest and another vote.
    pub(super) fn open_conflict(&mut self, n: u32, known: Digest, vote: Vote, now: Moment) {
        let Some(chunk) = self.chunks.get(n) else { return };
        let holds = chunk.holder.is_some() && chunk.holder == chunk.first;
        let first = Vote { worker: chunk.first, digest: known, holds };
        tracing::warn!(job = %self.record.id, chunk = n, "Two workers report different digests of chunk {n}");
        self.verifier.open_conflict(n, first, vote);
        self.refresh_chunk(n, now.at);
    }

    /// Takes in a further vote about a chunk in conflict.
    pub(super) fn record_vote(&mut self, n: u32, vote: Vote, now: Moment) {
        match self.verifier.record_vote(n, vote) {
            AfterVote::Ignored => {}
            AfterVote::Agreed(digest) => self.resolve_conflict(n, digest, now),
            AfterVote::Undecided => self.request_arbitration(n),
        }
    }

    fn request_arbitration(&mut self, n: u32) {
        if self.verifier.begin_arbitration(n) {
            self.add_effect(Effect::Arbitrate(n));
        }
    }

    /// Decides a conflict by the digest that the info-server computed itself; none if it could not fetch the chunk.
    pub(crate) fn arbitrate(&mut self, n: u32, digest: Option<Digest>, now: Moment) {
        let Some(arbitrations) = self.verifier.end_arbitration(n) else { return };
        match digest {
            Some(digest) => self.resolve_conflict(n, digest, now),
            None if arbitrations >= MAX_ARBITRATIONS => {
                self.finish(JobState::Failed, JobReason::WorkersFailed, now);
            }
            None => {}
        }
        self.update_state(now);
    }

    fn resolve_conflict(&mut self, n: u32, digest: Digest, now: Moment) {
        let Some(votes) = self.verifier.close_conflict(n) else { return };
        let (right, wrong): (Vec<Vote>, Vec<Vote>) = votes.into_iter().partition(|vote| vote.digest == digest);
        let first = right.iter().find_map(|vote| vote.worker);
        let holder = right.iter().find_map(|vote| vote.worker.filter(|_| vote.holds));
        self.chunks.resolve(n, Resolution { digest, first, holder, confirmed: true });
        self.refresh_chunk(n, now.at);
        self.verifier.note_compared(n);
        for vote in wrong {
            match vote.worker {
                Some(worker) => self.exclude_faulty(worker, now),
                None => self.withdraw_unconfirmed(None, now),
            }
        }
    }

    /// Excludes a worker that returned a wrong digest: nothing that it alone reported counts any more.
    pub(super) fn exclude_faulty(&mut self, worker: WorkerIdx, now: Moment) {
        let Some(server) = self.workers.exclude(worker) else { return };
        tracing::error!(
            job = %self.record.id, %server,
            "Worker {server} returned a wrong digest and is excluded: its chunks are fetched again"
        );
        self.add_effect(Effect::ExcludeFaulty(server));
        self.leases.end_of_worker(worker);
        self.update_record(|record| record.full_verification = false);
        self.verifier.cancel_full_verification();
        self.withdraw_unconfirmed(Some(worker), now);
        for n in self.verifier.conflicting_chunks() {
            self.remove_votes(n, worker, now);
        }
        self.refresh_wanted(now.at);
        self.update_state(now);
    }

    fn remove_votes(&mut self, n: u32, worker: WorkerIdx, now: Moment) {
        match self.verifier.remove_votes(n, worker) {
            AfterRemoval::NoVotes => self.chunks.withdraw(n),
            AfterRemoval::Agreed(votes) => {
                let holder = votes.iter().find(|vote| vote.holds).and_then(|vote| vote.worker);
                let Some(first) = votes.first() else { return };
                let confirmed = votes.len() > 1;
                self.chunks.resolve(n, Resolution { digest: first.digest, first: first.worker, holder, confirmed });
            }
            AfterRemoval::Open => return,
        }
        self.refresh_chunk(n, now.at);
    }

    /// Withdraws the digests that a worker alone reported, and what it holds; without one, the digests of an earlier attempt.
    fn withdraw_unconfirmed(&mut self, worker: Option<WorkerIdx>, now: Moment) {
        for n in 0..self.chunks.count() {
            let Some(chunk) = self.chunks.get(n) else { continue };
            let alone = chunk.digest.is_some() && chunk.first == worker && !chunk.confirmed;
            let held = worker.is_some() && chunk.holder == worker;
            if alone && !self.verifier.has_conflict(n) {
                self.chunks.withdraw(n);
            } else if held {
                self.chunks.drop_holder(n);
            } else {
                continue;
            }
            self.refresh_chunk(n, now.at);
        }
        self.update_record(|record| {
            record.generation += 1;
            // The assigned servers must receive an event that there is something else to fetch.
            if record.retention == RetentionStage::Assigned {
                record.retention = RetentionStage::Unassigned;
            }
        });
    }

    /// Starts the one full verification of the job: the SHA-256 of the whole is not the expected one.
    pub(super) fn start_full_verification(&mut self, now: Moment) {
        // A published file was read back, as a whole, by its holders.
        if !self.is_open() || self.record.fully_verified || self.is_published() {
            return;
        }
        self.update_record(|record| (record.fully_verified, record.full_verification) = (true, true));
        self.verifier.start_full_verification(&self.chunks);
        self.verifier.restart_wait(now.at);
        let id = self.record.id;
        tracing::warn!(job = %id, "The SHA-256 of job {id} is not the expected one: every chunk is compared");
        self.add_effect(Effect::HintWorkers);
        self.update_state(now);
    }

    /// Ends checks that no worker makes in time, so that nothing waits for them without end.
    pub(super) fn time_out_checks(&mut self, now: Moment) {
        for n in self.verifier.stranded_conflicts(&self.leases, &self.workers, now.at) {
            self.request_arbitration(n);
        }
        let waited = self.verifier.has_waited_too_long(now.at);
        if self.record.full_verification {
            let over = self.verifier.full_verification().is_empty() && !self.verifier.has_conflicts();
            let stuck = waited && !self.leases.has_checks();
            if over || stuck {
                self.update_record(|record| record.full_verification = false);
                self.finish(JobState::Failed, JobReason::WrongDigest, now);
            }
        } else if waited && self.record.state == JobState::Checking {
            self.verifier.waive_sampling();
        }
        self.update_state(now);
    }
}
