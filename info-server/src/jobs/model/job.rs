//! One job: its tables, and the rules that hold between them.
//!
//! Invariants, whatever is reported in whatever order:
//! - no two live leases cover one chunk to fetch it, but for hedges of the last ones, whose bytes stay within the allowance;
//! - the first digest of a chunk stands until it is withdrawn, and is withdrawn only when its reporter is found faulty;
//! - a chunk is *wanted* exactly while no live worker holds it, a requester lacks it, and its digest is not in conflict;
//! - the job is *done* exactly while nothing is wanted or will be after the wait for requesters, nothing in conflict and no check
//!   due.
//!
//! Each change is noted, so that one transaction stores all of them together with their effects.

use std::time::Instant;

use wire::{
    ChunkLayout, Digest, JobId,
    job::{JobReason, JobState},
};

use super::{
    chunk_table::ChunkTable,
    effect::Effect,
    lease_table::LeaseTable,
    moment::Moment,
    record::{JobChanges, JobRecord, RetentionStage},
    requesters::Requesters,
    retention::Retention,
    timers::Timers,
    verifier::Verifier,
    worker_table::WorkerTable,
};

mod checks;
pub(crate) mod clock;
pub(crate) mod file_view;
mod inventory;
pub(crate) mod kept_result;
mod leases;
pub(crate) mod reports;
mod requests;
mod start;
pub(crate) mod view;

/// The parts of a job's state that concern its origin.
#[derive(Debug, Default)]
struct OriginStatus {
    /// True while the origin is probed.
    probing: bool,
    /// True while a report that the content changed is looked into.
    change_suspected: bool,
    /// The last failure for which the origin was to blame, and no worker.
    trouble: Option<JobReason>,
}

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    record: JobRecord,
    record_changed: bool,
    chunks: ChunkTable,
    leases: LeaseTable,
    workers: WorkerTable,
    requesters: Requesters,
    verifier: Verifier,
    retention: Retention,
    timers: Timers,
    origin: OriginStatus,
    effects: Vec<Effect>,
}

impl Job {
    /// Makes a new job.
    pub(crate) fn new(record: JobRecord, seed: u64, now: Moment) -> Self {
        let mut job = Self::restore(JobChanges::none(record.id), record, seed, now);
        job.record_changed = true;
        job
    }

    /// Makes the job that begins in place of a scheduled one: its requesters move, `known` are digests of an earlier attempt.
    pub(crate) fn begin(
        record: JobRecord,
        requesters: Requesters,
        known: Vec<Option<Digest>>,
        seed: u64,
        now: Moment,
    ) -> Self {
        let mut job = Self::new(record, seed, now);
        job.requesters = requesters;
        for (n, digest) in (0_u32..).zip(known) {
            if let Some(digest) = digest {
                job.chunks.carry_over(n, digest);
            }
        }
        job.add_effect(Effect::AddFile);
        job.timers.note_hint(now.at);
        job.add_effect(Effect::HintWorkers);
        job.refresh_wanted(now.at);
        job.update_state(now);
        job
    }

    /// Makes a job as it stood in the database; its leases begin anew.
    pub(crate) fn restore(saved: JobChanges, record: JobRecord, seed: u64, now: Moment) -> Self {
        let layout = record.content.as_ref().and_then(|content| content.layout());
        let mut job = Self {
            record,
            record_changed: false,
            chunks: ChunkTable::new(layout.map_or(0, |layout| layout.count())),
            leases: LeaseTable::default(),
            workers: WorkerTable::default(),
            requesters: Requesters::default(),
            verifier: Verifier::new(seed),
            retention: Retention::default(),
            timers: Timers::new(now.at),
            origin: OriginStatus::default(),
            effects: Vec::new(),
        };
        job.restore_tables(saved, now);
        job.refresh_wanted(now.at);
        job
    }

    fn restore_tables(&mut self, saved: JobChanges, now: Moment) {
        saved.workers.into_iter().for_each(|record| self.workers.restore(record));
        saved.chunks.iter().for_each(|record| self.chunks.restore(record, &mut self.workers));
        for record in saved.leases {
            let worker = self.workers.find_or_insert(&record.server);
            let chunks = &self.chunks;
            let held = |n| chunks.get(n).is_some_and(|chunk| chunk.holder.is_some());
            self.leases.restore(record, worker, held, now.at);
        }
        saved.requesters.into_iter().for_each(|record| self.requesters.restore(record, now.at));
        saved.conflicts.into_iter().for_each(|record| self.verifier.restore(record, &mut self.workers));
        if self.record.full_verification {
            self.verifier.start_full_verification(&self.chunks);
        }
        // Workers that were to make checks may be gone: checks time out from now on.
        self.verifier.restart_wait(now.at);
        self.chunks.discard_changes();
        self.leases.discard_changes();
        self.workers.discard_changes();
        self.requesters.discard_changes();
        self.verifier.discard_changes();
    }

    pub(crate) const fn id(&self) -> JobId {
        self.record.id
    }

    pub(crate) const fn record(&self) -> &JobRecord {
        &self.record
    }

    pub(crate) const fn state(&self) -> JobState {
        self.record.state
    }

    pub(crate) const fn chunks(&self) -> &ChunkTable {
        &self.chunks
    }

    pub(crate) const fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    pub(crate) const fn workers(&self) -> &WorkerTable {
        &self.workers
    }

    pub(crate) const fn requesters(&self) -> &Requesters {
        &self.requesters
    }

    #[cfg(test)]
    pub(crate) const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    #[cfg(test)]
    pub(crate) const fn record_mut(&mut self) -> &mut JobRecord {
        &mut self.record
    }

    #[cfg(test)]
    pub(crate) const fn is_probing(&self) -> bool {
        self.origin.probing
    }

    fn layout(&self) -> Option<ChunkLayout> {
        self.record.content.as_ref()?.layout()
    }

    pub(crate) fn chunk_size(&self) -> u64 {
        self.record.content.as_ref().map_or(1, |content| content.chunk_size)
    }

    /// Returns true if chunks are fetched or compared, or could be again.
    pub(crate) const fn is_open(&self) -> bool {
        self.record.is_open()
    }

    fn is_published(&self) -> bool {
        self.record.retention >= RetentionStage::Published
    }

    /// Changes the record; it is stored with the next commit.
    fn update_record(&mut self, change: impl FnOnce(&mut JobRecord)) {
        change(&mut self.record);
        self.record_changed = true;
    }

    /// Adds an effect to those of the next commit.
    pub(crate) fn add_effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn is_wanted(&self, n: u32, wait: bool) -> bool {
        let Some(chunk) = self.chunks.get(n) else { return false };
        if !self.is_open() || self.verifier.has_conflict(n) || self.is_published() {
            return false;
        }
        if chunk.digest.is_none() {
            return true;
        }
        let held = chunk.holder.is_some_and(|worker| self.workers.is_live(worker));
        !held && !wait && (self.record.keep || !self.requesters.all_have(n))
    }

    /// Returns true while known digests wait for requesters that have not reported yet which chunks they have.
    fn waits_for_requesters(&self, now: Instant) -> bool {
        let again = !self.record.previous_files.is_empty();
        again && self.timers.waits_for_requesters(now) && self.requesters.any_unreported()
    }

    /// Computes anew whether one chunk is wanted.
    fn refresh_chunk(&mut self, n: u32, now: Instant) {
        let wanted = self.is_wanted(n, self.waits_for_requesters(now));
        self.chunks.set_wanted(n, wanted);
    }

    /// Computes anew which chunks are wanted.
    fn refresh_wanted(&mut self, now: Instant) {
        let wait = self.waits_for_requesters(now);
        let wanted: Vec<u32> = (0..self.chunks.count()).filter(|n| self.is_wanted(*n, wait)).collect();
        self.chunks.replace_wanted(wanted.into_iter());
    }

    /// Returns true while chunks are missing that are wanted once the wait for requesters is over.
    fn defers_chunks(&self, now: Instant) -> bool {
        self.waits_for_requesters(now) && (0..self.chunks.count()).any(|n| self.is_wanted(n, false))
    }

    /// Ends the job, and removes its file.
    pub(crate) fn finish(&mut self, state: JobState, reason: JobReason, now: Moment) {
        if self.record.state.is_dead() {
            return;
        }
        self.leases.end_all();
        self.chunks.replace_wanted(std::iter::empty());
        self.chunks.free_if_unknown();
        self.update_record(|record| {
            (record.state, record.reason, record.ended_at) = (state, Some(reason), Some(now.wall));
        });
        if let Some(file) = self.record.content.as_ref().map(|content| content.file) {
            self.add_effect(Effect::RemoveFile(file));
        }
    }

    /// Moves the job between *running*, *checking* and *done*, after any other change.
    fn update_state(&mut self, now: Moment) {
        if !self.is_open() {
            return;
        }
        let is_incomplete = !self.chunks.wanted().is_empty() || self.defers_chunks(now.at);
        let state = if is_incomplete || self.verifier.has_conflicts() {
            JobState::Running
        } else if self.is_check_due(now.at) {
            JobState::Checking
        } else {
            JobState::Done
        };
        if self.record.state == state {
            return;
        }
        self.verifier.restart_wait(now.at);
        let ended_at = (state == JobState::Done).then_some(now.wall);
        self.update_record(|record| (record.state, record.ended_at) = (state, ended_at));
        if state == JobState::Running {
            // Workers that received the answer that there is nothing more get a hint.
            self.timers.note_progress(now.at);
            self.timers.note_hint(now.at);
            self.add_effect(Effect::HintWorkers);
        }
        if state == JobState::Done {
            self.leases.end_all();
        }
    }

    /// Returns what is to be stored, none if nothing changed, and what follows; both are taken out.
    pub(crate) fn take_changes(&mut self) -> (Option<JobChanges>, Vec<Effect>) {
        let mut changes = JobChanges::none(self.record.id);
        if std::mem::take(&mut self.record_changed) {
            changes.record = Some(self.record.clone());
        }
        self.chunks.take_changes(&self.workers, &mut changes);
        self.verifier.take_changes(&self.workers, &mut changes);
        self.leases.take_changes(&self.workers, &mut changes);
        self.workers.take_changes(&mut changes);
        self.requesters.take_changes(&mut changes);
        let changed = !changes.is_empty();
        (changed.then_some(changes), std::mem::take(&mut self.effects))
    }

    /// Returns all of the job, as it stands in the database once everything is stored.
    #[cfg(test)]
    pub(crate) fn snapshot(&mut self) -> (JobRecord, JobChanges) {
        self.take_changes();
        self.chunks.mark_all();
        self.verifier.mark_all();
        self.leases.mark_all();
        self.workers.mark_all();
        self.requesters.mark_all();
        self.record_changed = true;
        (self.record.clone(), self.take_changes().0.unwrap())
    }
}
