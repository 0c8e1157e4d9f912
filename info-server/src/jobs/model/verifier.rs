//! The check of digests: samples, votes about chunks whose digests differ, and the full verification.
//!
//! A sample of each worker's chunks is fetched again by another worker. When two digests differ, a third worker decides, or the
//! info-server itself; workers whose digest was wrong are excluded, and every digest that no other worker confirmed is withdrawn with
//! them.
//!
//! Invariant: while votes about a chunk differ, the chunk is neither fetched, nor shown, nor served; a conflict ends only when two
//! votes agree, the info-server has fetched the chunk itself, or one party is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::{Duration, Instant},
};

use wire::{ChunkSet, Digest};

use sampling::Sampler;

use super::{
    chunk_table::ChunkTable,
    lease_table::LeaseTable,
    record::{ConflictRecord, JobChanges, VoteRecord},
    worker_table::{WorkerIdx, WorkerTable},
};

pub(crate) mod sampling;

/// Longest time that a check waits for a worker.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// Chunks in one span of a full verification.
const FULL_VERIFICATION_SPAN: u32 = 16;

/// The digest of a chunk, as one worker reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vote {
    /// None for the digest of an earlier attempt.
    pub(crate) worker: Option<WorkerIdx>,
    pub(crate) digest: Digest,
    /// Set if the worker holds the bytes.
    pub(crate) holds: bool,
}

/// The state of a conflict after a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterVote {
    /// The worker has voted before, or there is no conflict.
    Ignored,
    /// Two votes agree on this digest.
    Agreed(Digest),
    /// All votes differ.
    Undecided,
}

/// The state of a conflict after the votes of one worker are struck.
#[derive(Debug, Clone)]
pub(crate) enum AfterRemoval {
    /// No vote is left; the conflict is closed.
    NoVotes,
    /// All votes that are left agree; the conflict is closed.
    Agreed(Vec<Vote>),
    /// The conflict goes on.
    Open,
}

#[derive(Debug, Clone)]
struct Conflict {
    votes: Vec<Vote>,
    /// True while the info-server fetches the chunk.
    arbitrating: bool,
    arbitrations: u32,
}

impl Conflict {
    fn has_vote_of(&self, worker: WorkerIdx) -> bool {
        self.votes.iter().any(|vote| vote.worker == Some(worker))
    }
}

/// The doubts about a job's chunks.
#[derive(Debug)]
pub(crate) struct Verifier {
    conflicts: BTreeMap<u32, Conflict>,
    /// Chunks that the full verification still has to compare.
    full_verification: ChunkSet,
    sampler: Sampler,
    /// The time at which the job got into its state, or the full verification began.
    waiting_since: Option<Instant>,
    changed: BTreeSet<u32>,
}

impl Verifier {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            conflicts: BTreeMap::new(),
            full_verification: ChunkSet::new(),
            sampler: Sampler::new(seed),
            waiting_since: None,
            changed: BTreeSet::new(),
        }
    }

    pub(crate) fn restore(&mut self, record: ConflictRecord, workers: &mut WorkerTable) {
        let vote = |VoteRecord { server, sha256, holds }: VoteRecord| {
            let worker = server.map(|server| workers.find_or_insert(&server));
            Vote { worker, digest: sha256, holds }
        };
        let votes = record.votes.into_iter().map(vote).collect();
        self.conflicts.insert(record.n, Conflict { votes, arbitrating: false, arbitrations: 0 });
    }

    pub(crate) fn has_conflict(&self, n: u32) -> bool {
        self.conflicts.contains_key(&n)
    }

    pub(crate) fn has_conflicts(&self) -> bool {
        !self.conflicts.is_empty()
    }

    pub(crate) fn conflicting_chunks(&self) -> Vec<u32> {
        self.conflicts.keys().copied().collect()
    }

    /// Starts the time that checks may wait for a worker.
    pub(crate) const fn restart_wait(&mut self, now: Instant) {
        self.waiting_since = Some(now);
    }

    pub(crate) fn has_waited_too_long(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= CHECK_TIMEOUT)
    }

    pub(crate) const fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Gives up samples for which no worker is there.
    pub(crate) const fn waive_sampling(&mut self) {
        self.sampler.waive();
    }

    /// Returns a chunk of another worker's for a worker to compare.
    pub(crate) fn draw_sample(&mut self, checker: WorkerIdx, chunks: &ChunkTable, leases: &LeaseTable) -> Option<u32> {
        self.sampler.draw_chunk(checker, chunks, leases, |n| self.conflicts.contains_key(&n))
    }

    pub(crate) fn discard_changes(&mut self) {
        self.changed.clear();
    }

    pub(crate) fn take_changes(&mut self, workers: &WorkerTable, into: &mut JobChanges) {
        for n in std::mem::take(&mut self.changed) {
            match self.record(n, workers) {
                Some(record) => into.conflicts.push(record),
                None => into.resolved_conflicts.push(n),
            }
        }
    }

    /// Returns what is stored of a conflict.
    pub(crate) fn record(&self, n: u32, workers: &WorkerTable) -> Option<ConflictRecord> {
        let record =
            |vote: &Vote| VoteRecord { server: workers.server(vote.worker), sha256: vote.digest, holds: vote.holds };
        Some(ConflictRecord { n, votes: self.conflicts.get(&n)?.votes.iter().map(record).collect() })
    }

    #[cfg(test)]
    pub(crate) fn mark_all(&mut self) {
        self.changed = self.conflicts.keys().copied().collect();
    }
}

/// Conflicts.
impl Verifier {
    /// Opens a conflict about a chunk between its first digest and another one.
    pub(crate) fn open_conflict(&mut self, n: u32, first: Vote, second: Vote) {
        let conflict = Conflict { votes: vec![first, second], arbitrating: false, arbitrations: 0 };
        self.conflicts.insert(n, conflict);
        self.changed.insert(n);
    }

    /// Returns a conflict that a worker can decide: it is no party, and no other worker is at it.
    pub(crate) fn conflict_for(&self, worker: WorkerIdx, leases: &LeaseTable) -> Option<u32> {
        let decidable = |(n, conflict): (&u32, &Conflict)| {
            let free = !conflict.has_vote_of(worker) && !conflict.arbitrating && !leases.is_under_check(*n);
            free.then_some(*n)
        };
        self.conflicts.iter().find_map(decidable)
    }

    /// Adds a vote about a chunk in conflict.
    pub(crate) fn record_vote(&mut self, n: u32, vote: Vote) -> AfterVote {
        let Some(conflict) = self.conflicts.get_mut(&n) else { return AfterVote::Ignored };
        if conflict.votes.iter().any(|before| before.worker == vote.worker) {
            return AfterVote::Ignored;
        }
        let agrees = conflict.votes.iter().any(|before| before.digest == vote.digest);
        conflict.votes.push(vote);
        self.changed.insert(n);
        if agrees { AfterVote::Agreed(vote.digest) } else { AfterVote::Undecided }
    }

    /// Returns true if the info-server has to fetch a chunk now to decide a conflict.
    pub(crate) fn begin_arbitration(&mut self, n: u32) -> bool {
        let Some(conflict) = self.conflicts.get_mut(&n).filter(|conflict| !conflict.arbitrating) else { return false };
        conflict.arbitrating = true;
        true
    }

    /// Notes that an arbitration ended; returns how many there were, or none if the conflict is closed.
    pub(crate) fn end_arbitration(&mut self, n: u32) -> Option<u32> {
        let conflict = self.conflicts.get_mut(&n)?;
        conflict.arbitrating = false;
        conflict.arbitrations += 1;
        Some(conflict.arbitrations)
    }

    /// Closes a conflict; returns its votes.
    pub(crate) fn close_conflict(&mut self, n: u32) -> Option<Vec<Vote>> {
        let conflict = self.conflicts.remove(&n)?;
        self.changed.insert(n);
        Some(conflict.votes)
    }

    /// Strikes the votes of a worker from a conflict, and closes it if no two votes differ any more.
    pub(crate) fn remove_votes(&mut self, n: u32, worker: WorkerIdx) -> AfterRemoval {
        let Some(conflict) = self.conflicts.get_mut(&n) else { return AfterRemoval::Open };
        self.changed.insert(n);
        conflict.votes.retain(|vote| vote.worker != Some(worker));
        let Some((first, rest)) = conflict.votes.split_first() else {
            self.conflicts.remove(&n);
            return AfterRemoval::NoVotes;
        };
        if rest.iter().any(|vote| vote.digest != first.digest) {
            return AfterRemoval::Open;
        }
        self.conflicts.remove(&n).map_or(AfterRemoval::Open, |conflict| AfterRemoval::Agreed(conflict.votes))
    }

    /// Returns the conflicts that no worker is at, and none is there to decide.
    pub(crate) fn stranded_conflicts(&self, leases: &LeaseTable, workers: &WorkerTable, now: Instant) -> Vec<u32> {
        let stranded = |(n, conflict): &(&u32, &Conflict)| {
            let is_party = |worker| conflict.has_vote_of(worker);
            !conflict.arbitrating && !leases.is_under_check(**n) && !workers.has_attentive(is_party, now)
        };
        self.conflicts.iter().filter(stranded).map(|(n, _)| *n).collect()
    }
}

/// The full verification.
impl Verifier {
    /// Has every chunk compared whose digest one worker alone reported.
    pub(crate) fn start_full_verification(&mut self, chunks: &ChunkTable) {
        let unconfirmed = chunks.unconfirmed();
        let comparable = unconfirmed.iter().flatten().filter(|n| !self.has_conflict(*n));
        self.full_verification = comparable.map(|n| n..n + 1).collect();
    }

    pub(crate) fn cancel_full_verification(&mut self) {
        self.full_verification = ChunkSet::new();
    }

    /// Returns the chunks that the full verification still has to compare.
    pub(crate) const fn full_verification(&self) -> &ChunkSet {
        &self.full_verification
    }

    /// Notes that a chunk was compared.
    pub(crate) fn note_compared(&mut self, n: u32) {
        self.full_verification.remove(n..n + 1);
    }

    /// Returns chunks of the full verification that a worker may compare: others reported them first.
    pub(crate) fn full_verification_for(
        &self,
        worker: WorkerIdx,
        chunks: &ChunkTable,
        leases: &LeaseTable,
    ) -> Option<Range<u32>> {
        let under_check = leases.under_check();
        let free =
            |n: &u32| chunks.get(*n).is_some_and(|chunk| chunk.first != Some(worker)) && !under_check.contains(*n);
        let start = self.full_verification.iter().flatten().find(free)?;
        let span = start..start.saturating_add(FULL_VERIFICATION_SPAN);
        let end = span.take_while(|n| self.full_verification.contains(*n) && free(n)).last()?;
        Some(start..end + 1)
    }
}
