//! One job: what is known of each chunk, who works, who asks. Pure.
//!
//! Invariants, whatever is reported in whatever order:
//! - no two live leases cover one chunk to fetch it, but for bets on the last ones, whose bytes stay within the waste bound;
//! - a chunk's first digest stands until it is withdrawn, and is withdrawn only when the one who told of it is found to lie;
//! - a chunk is *wanted* exactly while nobody who lives holds it, somebody lacks it, and its digest is not in dispute;
//! - the job is *done* exactly while nothing is wanted, nothing in dispute and no check due.
//!
//! What changes is noted, so that one transaction stores all of it and what follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use wire::{
    Digest, JobId, Runs, ServerId, Zone,
    id::InstanceId,
    job::{JobState, Reason},
};

use super::{
    askers::{Asker, Who},
    checks::Checks,
    effects::Effect,
    lease::{Lease, Rate},
    row::{AskerRow, ChunkRow, LeaseAbout, LeaseRow, Row, Saved, Shelf, WorkerRow},
};

/// How long known digests wait for askers who may have the bytes already.
pub(crate) const ASKERS_FIRST: Duration = Duration::from_secs(10);

/// The time, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wall: Timestamp::now() }
    }
}

/// What is known of a chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunk {
    pub(crate) digest: Option<Digest>,
    /// Who told of the digest, by seat.
    pub(crate) first: Option<usize>,
    /// Who holds it, by seat.
    pub(crate) holder: Option<usize>,
    /// Whether another one found the same digest.
    pub(crate) confirmed: bool,
    /// When it was last changed, in the job's own count.
    pub(crate) version: u64,
}

/// A file server that works on the job.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) server: ServerId,
    pub(crate) zone: Option<Zone>,
    pub(crate) live: bool,
    pub(crate) excluded: bool,
    /// Failures since the last chunk.
    pub(crate) failures: u32,
    pub(crate) bytes: u64,
    pub(crate) rate: Rate,
    /// When it last asked for work or told of it.
    pub(crate) seen: Option<Instant>,
    /// The start of it that told what it holds.
    pub(crate) told_by: Option<InstanceId>,
    /// After a failure it gets nothing before this.
    pub(crate) rests_until: Option<Instant>,
}

/// What was changed since it was last stored.
#[derive(Debug, Default)]
struct Dirty {
    row: bool,
    chunks: BTreeSet<u32>,
    disputes: BTreeSet<u32>,
    leases: BTreeSet<u64>,
    workers: BTreeSet<usize>,
    askers: BTreeSet<Who>,
}

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) row: Row,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) leases: BTreeMap<u64, Lease>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) askers: BTreeMap<Who, Asker>,
    pub(crate) checks: Checks,
    /// Chunks to be fetched, leased or not.
    pub(crate) wanted: Runs,
    /// Ascends with every change that somebody may see.
    pub(crate) version: u64,
    /// When a chunk or bytes last came.
    pub(crate) moved: Instant,
    /// When it began, or was read back.
    pub(crate) begun: Instant,
    pub(crate) hinted: Option<Instant>,
    /// Whether the origin is being asked what it has.
    pub(crate) probing: bool,
    /// Whose word that the content changed is being looked into.
    pub(crate) doubt: Option<usize>,
    /// What the origin, and no worker, was to blame for of late.
    pub(crate) trouble: Option<Reason>,
    /// Since when nobody is there who could work on it.
    pub(crate) alone: Option<Instant>,
    /// Whether known digests have stopped waiting for askers.
    pub(crate) woke: bool,
    /// When servers were last looked for that are to keep it.
    pub(crate) shelved: Option<Instant>,
    dirty: Dirty,
    effects: Vec<Effect>,
}

impl Job {
    /// A new job.
    pub(crate) fn new(row: Row, seed: u64, now: Moment) -> Self {
        let mut job = Self::read(Saved::nothing(row.id), row, seed, now);
        job.dirty.row = true;
        job
    }

    /// A job as it stood in the database; its leases begin anew.
    pub(crate) fn read(saved: Saved, row: Row, seed: u64, now: Moment) -> Self {
        let count = row.content.as_ref().and_then(|content| content.layout()).map_or(0, |layout| layout.count());
        let mut job = Self {
            chunks: vec![Chunk::default(); usize::try_from(count).unwrap_or(0)],
            row,
            leases: BTreeMap::new(),
            workers: Vec::new(),
            askers: BTreeMap::new(),
            checks: Checks::new(seed),
            wanted: Runs::new(),
            version: 1,
            moved: now.at,
            begun: now.at,
            hinted: None,
            probing: false,
            doubt: None,
            trouble: None,
            alone: None,
            woke: false,
            shelved: None,
            dirty: Dirty::default(),
            effects: Vec::new(),
        };
        job.restore(saved, now);
        job.refresh_all(now.at);
        job
    }

    fn restore(&mut self, saved: Saved, now: Moment) {
        for worker in saved.workers {
            let seat = self.seat(&worker.server);
            if let Some(known) = self.workers.get_mut(seat) {
                known.excluded = worker.excluded;
                known.failures = worker.failures;
                known.bytes = worker.bytes;
                // Nobody is dead before one lease.
                known.live = true;
            }
        }
        for row in saved.chunks {
            let first = row.first.map(|server| self.seat(&server));
            let holder = row.holder.map(|server| self.seat(&server));
            let chunk = Chunk { digest: Some(row.sha256), first, holder, confirmed: row.confirmed, version: 1 };
            if let Some(known) = self.chunk_mut(row.n) {
                *known = chunk;
            }
        }
        for LeaseRow { fence, server, about } in saved.leases {
            let seat = self.seat(&server);
            let granted = about.granted.0..about.granted.1;
            let done = granted.clone().filter(|n| self.chunk(*n).is_some_and(|chunk| chunk.holder.is_some()));
            let done =
                if about.purpose == wire::job::Purpose::Fetch { done.map(|n| n..n + 1).collect() } else { Runs::new() };
            let (end, purpose, bet, connections) = (about.end, about.purpose, about.bet, about.connections);
            // Workers may still wait between two tries to report.
            let heard = now.at + super::lease::RETURN;
            let (bytes, moved) = (0, now.at);
            let lease = Lease { seat, granted, end, purpose, bet, connections, done, bytes, heard, moved };
            self.leases.insert(fence, lease);
        }
        for AskerRow { who, present, left } in saved.askers {
            self.askers.insert(who, Asker { present, left, runs: None, heard: now.at });
        }
        self.resume_checks(saved.disputes, now);
        self.dirty = Dirty::default();
    }

    pub(crate) const fn id(&self) -> JobId {
        self.row.id
    }

    pub(crate) fn chunk(&self, n: u32) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(n).ok()?)
    }

    fn chunk_mut(&mut self, n: u32) -> Option<&mut Chunk> {
        self.chunks.get_mut(usize::try_from(n).ok()?)
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn chunk_size(&self) -> u64 {
        self.row.content.as_ref().map_or(1, |content| content.chunk_size)
    }

    /// Whether chunks are still being fetched or compared, or could be again.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.row.state, JobState::Running | JobState::Checking | JobState::Done)
    }

    /// A server's place in the list; it is given one if it has none.
    pub(crate) fn seat(&mut self, server: &ServerId) -> usize {
        if let Some(seat) = self.seat_of(server) {
            return seat;
        }
        let (server, seat) = (server.clone(), self.workers.len());
        self.workers.push(Worker {
            server,
            zone: None,
            live: false,
            excluded: false,
            failures: 0,
            bytes: 0,
            rate: Rate::default(),
            seen: None,
            told_by: None,
            rests_until: None,
        });
        self.dirty.workers.insert(seat);
        seat
    }

    pub(crate) fn seat_of(&self, server: &ServerId) -> Option<usize> {
        self.workers.iter().position(|worker| worker.server == *server)
    }

    /// Whether a worker may be given something to do.
    pub(crate) fn is_able(&self, seat: usize) -> bool {
        self.workers.get(seat).is_some_and(|worker| worker.live && !worker.excluded)
    }

    /// Whether chunks can be taken from a worker; also from one that failed too often to be given more.
    pub(crate) fn serves(&self, seat: usize) -> bool {
        self.workers.get(seat).is_some_and(|worker| worker.live)
    }

    /// Changes a chunk, and what follows for whether it is wanted.
    pub(crate) fn change(&mut self, n: u32, change: impl FnOnce(&mut Chunk), now: Instant) {
        self.version += 1;
        let version = self.version;
        if let Some(chunk) = self.chunk_mut(n) {
            change(chunk);
            chunk.version = version;
            self.dirty.chunks.insert(n);
            self.refresh(n, now);
        }
    }

    /// Notes that something about a chunk looks different now, though nothing of it is stored.
    pub(crate) fn touch(&mut self, n: u32) {
        self.version += 1;
        let version = self.version;
        if let Some(chunk) = self.chunk_mut(n) {
            chunk.version = version;
        }
    }

    /// Changes the job itself.
    pub(crate) fn change_row(&mut self, change: impl FnOnce(&mut Row)) {
        self.version += 1;
        change(&mut self.row);
        self.dirty.row = true;
    }

    pub(crate) fn worker_mut(&mut self, seat: usize) -> Option<&mut Worker> {
        self.version += 1;
        self.dirty.workers.insert(seat);
        self.workers.get_mut(seat)
    }

    pub(crate) fn note_asker(&mut self, who: Who) {
        self.version += 1;
        self.dirty.askers.insert(who);
    }

    pub(crate) fn note_dispute(&mut self, n: u32) {
        self.version += 1;
        self.dirty.disputes.insert(n);
    }

    pub(crate) fn note_lease(&mut self, fence: u64) {
        self.version += 1;
        self.dirty.leases.insert(fence);
    }

    pub(crate) fn end_lease(&mut self, fence: u64) {
        self.leases.remove(&fence);
        self.note_lease(fence);
    }

    pub(crate) fn follow(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Whether a chunk is to be fetched.
    fn is_wanted(&self, n: u32, wait: bool) -> bool {
        let Some(chunk) = self.chunk(n) else { return false };
        if !self.is_open() || self.checks.is_disputed(n) || self.row.shelf >= Shelf::Published {
            return false;
        }
        if chunk.digest.is_none() {
            return true;
        }
        !chunk.holder.is_some_and(|seat| self.serves(seat)) && !wait && (self.row.keep || !self.everyone_has(n))
    }

    /// Whether known digests wait for askers who have not said yet what they have.
    fn waits_for_askers(&self, now: Instant) -> bool {
        let early = now.saturating_duration_since(self.begun) < ASKERS_FIRST;
        early
            && !self.row.formerly.is_empty()
            && self.askers.values().any(|asker| asker.present && asker.runs.is_none())
    }

    pub(crate) fn refresh(&mut self, n: u32, now: Instant) {
        let wait = self.waits_for_askers(now);
        if self.is_wanted(n, wait) {
            self.wanted.insert(n..n + 1);
        } else {
            self.wanted.remove(n..n + 1);
        }
    }

    pub(crate) fn refresh_all(&mut self, now: Instant) {
        let wait = self.waits_for_askers(now);
        let mut wanted: Vec<std::ops::Range<u32>> = Vec::new();
        for n in 0..self.count() {
            if self.is_wanted(n, wait) {
                match wanted.last_mut().filter(|run| run.end == n) {
                    Some(run) => run.end += 1,
                    None => wanted.push(n..n + 1),
                }
            }
        }
        self.wanted = wanted.into_iter().collect();
    }

    /// Ends the job; its file goes, unless it stands in the catalogue for its own sake.
    pub(crate) fn finish(&mut self, state: JobState, reason: Reason, now: Moment) {
        if matches!(self.row.state, JobState::Failed | JobState::Stopped | JobState::Direct) {
            return;
        }
        let fences: Vec<u64> = self.leases.keys().copied().collect();
        fences.into_iter().for_each(|fence| self.end_lease(fence));
        self.wanted = Runs::new();
        if self.chunks.iter().all(|chunk| chunk.digest.is_none()) {
            // Nothing to go on with: what is remembered is small.
            self.chunks = Vec::new();
        }
        self.change_row(|row| (row.state, row.reason, row.over_at) = (state, Some(reason), Some(now.wall)));
        if let Some(file) = self.row.content.as_ref().map(|content| content.file) {
            self.follow(Effect::RemoveFile(file));
        }
    }

    /// Where the job is after what just happened.
    pub(crate) fn settle(&mut self, now: Moment) {
        if !self.is_open() {
            return;
        }
        let state = if !self.wanted.is_empty() || self.checks.has_disputes() {
            JobState::Running
        } else if self.checks_due(now.at) {
            JobState::Checking
        } else {
            JobState::Done
        };
        if self.row.state == state {
            return;
        }
        self.checks.since = Some(now.at);
        let over_at = (state == JobState::Done).then_some(now.wall);
        self.change_row(|row| (row.state, row.over_at) = (state, over_at));
        if state == JobState::Running {
            // Those who were told that there is nothing more are told otherwise.
            self.moved = now.at;
            self.hinted = Some(now.at);
            self.follow(Effect::Hint);
        }
        if state == JobState::Done {
            let fences: Vec<u64> = self.leases.keys().copied().collect();
            fences.into_iter().for_each(|fence| self.end_lease(fence));
        }
    }

    /// What is to be stored, and what else follows; empty when nothing changed.
    pub(crate) fn take(&mut self) -> (Option<Saved>, Vec<Effect>) {
        let dirty = std::mem::take(&mut self.dirty);
        let effects = std::mem::take(&mut self.effects);
        let clean = !dirty.row && dirty.chunks.is_empty() && dirty.leases.is_empty() && dirty.askers.is_empty();
        if clean && dirty.workers.is_empty() && dirty.disputes.is_empty() {
            return (None, effects);
        }
        let mut saved = Saved::nothing(self.row.id);
        saved.row = dirty.row.then(|| self.row.clone());
        for n in dirty.chunks {
            match self.chunk_row(n) {
                Some(row) => saved.chunks.push(row),
                None => saved.withdrawn.push(n),
            }
        }
        for n in dirty.disputes {
            match self.dispute_row(n) {
                Some(row) => saved.disputes.push(row),
                None => saved.settled.push(n),
            }
        }
        for fence in dirty.leases {
            match self.leases.get(&fence).and_then(|lease| self.lease_row(fence, lease)) {
                Some(row) => saved.leases.push(row),
                None => saved.ended.push(fence),
            }
        }
        let workers = dirty.workers.into_iter().filter_map(|seat| self.workers.get(seat));
        saved.workers = workers.map(Worker::row).collect();
        for who in dirty.askers {
            match self.askers.get(&who) {
                Some(Asker { present, left, .. }) => {
                    saved.askers.push(AskerRow { who, present: *present, left: *left });
                }
                None => saved.forgotten.push(who),
            }
        }
        (Some(saved), effects)
    }

    /// All of it, as it stands in the database once everything is stored.
    #[cfg(test)]
    pub(crate) fn snapshot(&mut self) -> (Row, Saved) {
        self.take();
        self.dirty.chunks = (0..self.count()).collect();
        self.dirty.disputes = self.disputed().into_iter().collect();
        self.dirty.leases = self.leases.keys().copied().collect();
        self.dirty.workers = (0..self.workers.len()).collect();
        self.dirty.askers = self.askers.keys().copied().collect();
        self.dirty.row = true;
        (self.row.clone(), self.take().0.unwrap())
    }

    fn chunk_row(&self, n: u32) -> Option<ChunkRow> {
        let chunk = self.chunk(n)?;
        let server = |seat: Option<usize>| Some(self.workers.get(seat?)?.server.clone());
        let (first, holder) = (server(chunk.first), server(chunk.holder));
        Some(ChunkRow { n, sha256: chunk.digest?, first, holder, confirmed: chunk.confirmed })
    }

    fn lease_row(&self, fence: u64, lease: &Lease) -> Option<LeaseRow> {
        let granted = (lease.granted.start, lease.granted.end);
        let (end, purpose, bet, connections) = (lease.end, lease.purpose, lease.bet, lease.connections);
        let server = self.workers.get(lease.seat)?.server.clone();
        Some(LeaseRow { fence, server, about: LeaseAbout { granted, end, purpose, bet, connections } })
    }
}

impl Worker {
    fn row(&self) -> WorkerRow {
        let Self { server, excluded, failures, bytes, .. } = self;
        WorkerRow { server: server.clone(), excluded: *excluded, failures: *failures, bytes: *bytes }
    }
}
