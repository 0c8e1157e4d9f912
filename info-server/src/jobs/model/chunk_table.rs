//! The state of each chunk, and the set of chunks to be fetched.
//!
//! Invariants:
//! - the first digest of a chunk stands until it is withdrawn, or a conflict about it is resolved;
//! - the revision ascends with every change that a requester may see, and each chunk carries that of its last change.
//!
//! The set of *wanted* chunks is stored here and computed by [`super::job::Job`], since it follows from all tables together.

use std::{collections::BTreeSet, ops::Range};

use wire::{ChunkSet, Digest};

use super::{
    record::{ChunkRecord, JobChanges},
    worker_table::{WorkerIdx, WorkerTable},
};

/// The state of a chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunk {
    pub(crate) digest: Option<Digest>,
    /// The worker that reported the digest first; none for the digest of an earlier attempt.
    pub(crate) first: Option<WorkerIdx>,
    /// The worker that holds the bytes.
    pub(crate) holder: Option<WorkerIdx>,
    /// Set once another worker found the same digest.
    pub(crate) confirmed: bool,
    /// The revision of the table at its last change.
    pub(crate) revision: u64,
}

/// The decided digest of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolution {
    pub(crate) digest: Digest,
    pub(crate) first: Option<WorkerIdx>,
    pub(crate) holder: Option<WorkerIdx>,
    pub(crate) confirmed: bool,
}

/// All chunks of a job's file.
#[derive(Debug)]
pub(crate) struct ChunkTable {
    chunks: Vec<Chunk>,
    wanted: ChunkSet,
    revision: u64,
    changed: BTreeSet<u32>,
}

impl ChunkTable {
    pub(crate) fn new(count: u32) -> Self {
        let chunks = vec![Chunk::default(); usize::try_from(count).unwrap_or(0)];
        Self { chunks, wanted: ChunkSet::new(), revision: 1, changed: BTreeSet::new() }
    }

    pub(crate) fn restore(&mut self, record: &ChunkRecord, workers: &mut WorkerTable) {
        let first = record.first.as_ref().map(|server| workers.find_or_insert(server));
        let holder = record.holder.as_ref().map(|server| workers.find_or_insert(server));
        let (digest, revision) = (Some(record.sha256), self.revision);
        if let Some(chunk) = self.get_mut(record.n) {
            *chunk = Chunk { digest, first, holder, confirmed: record.confirmed, revision };
        }
    }

    pub(crate) fn get(&self, n: u32) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(n).ok()?)
    }

    fn get_mut(&mut self, n: u32) -> Option<&mut Chunk> {
        self.chunks.get_mut(usize::try_from(n).ok()?)
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Chunk)> {
        (0_u32..).zip(&self.chunks)
    }

    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the chunks that a worker holds.
    pub(crate) fn held_by(&self, worker: WorkerIdx) -> Vec<u32> {
        self.iter().filter(|(_, chunk)| chunk.holder == Some(worker)).map(|(n, _)| n).collect()
    }

    /// Returns the digests of all chunks, once they are known.
    pub(crate) fn digests(&self) -> Option<Vec<Digest>> {
        self.chunks.iter().map(|chunk| chunk.digest).collect()
    }

    /// Returns the chunks whose digest one worker alone reported.
    pub(crate) fn unconfirmed(&self) -> ChunkSet {
        let open = self.iter().filter(|(_, chunk)| chunk.digest.is_some() && !chunk.confirmed);
        open.map(|(n, _)| n..n + 1).collect()
    }

    fn update(&mut self, n: u32, change: impl FnOnce(&mut Chunk)) {
        self.revision += 1;
        let revision = self.revision;
        if let Some(chunk) = self.get_mut(n) {
            change(chunk);
            chunk.revision = revision;
            self.changed.insert(n);
        }
    }

    /// Sets a digest that an earlier attempt left; no worker holds the bytes.
    pub(crate) fn carry_over(&mut self, n: u32, digest: Digest) {
        self.update(n, |chunk| chunk.digest = Some(digest));
    }

    /// Sets the first digest of a chunk that a worker fetched and holds; one that stands is left as it is.
    pub(crate) fn record_first(&mut self, n: u32, digest: Digest, worker: WorkerIdx) {
        self.update(n, |chunk| {
            if chunk.digest.is_none() {
                (chunk.digest, chunk.first, chunk.holder) = (Some(digest), Some(worker), Some(worker));
            }
        });
    }

    /// Notes that a worker found the digest that stands; it becomes the holder if `holds` is set.
    pub(crate) fn record_agreement(&mut self, n: u32, worker: WorkerIdx, holds: bool) {
        self.update(n, |chunk| {
            chunk.confirmed |= chunk.first != Some(worker);
            chunk.first = chunk.first.or(Some(worker));
            if holds {
                chunk.holder = Some(worker);
            }
        });
    }

    /// Sets the digest on which a conflict ended.
    pub(crate) fn resolve(&mut self, n: u32, Resolution { digest, first, holder, confirmed }: Resolution) {
        self.update(n, |chunk| {
            (chunk.digest, chunk.first, chunk.holder, chunk.confirmed) = (Some(digest), first, holder, confirmed);
        });
    }

    /// Forgets all that is known of a chunk.
    pub(crate) fn withdraw(&mut self, n: u32) {
        self.update(n, |chunk| *chunk = Chunk::default());
    }

    pub(crate) fn drop_holder(&mut self, n: u32) {
        self.update(n, |chunk| chunk.holder = None);
    }

    /// Notes that a chunk is shown differently now, though nothing of it is stored: its holder died or came back.
    pub(crate) fn touch(&mut self, n: u32) {
        self.revision += 1;
        let revision = self.revision;
        if let Some(chunk) = self.get_mut(n) {
            chunk.revision = revision;
        }
    }

    /// Frees the table of a job that ended without a single digest, so that what is remembered of it is small.
    pub(crate) fn free_if_unknown(&mut self) {
        if self.chunks.iter().all(|chunk| chunk.digest.is_none()) {
            self.chunks = Vec::new();
        }
    }

    /// Returns the chunks to be fetched, leased or not.
    pub(crate) const fn wanted(&self) -> &ChunkSet {
        &self.wanted
    }

    pub(crate) fn set_wanted(&mut self, n: u32, wanted: bool) {
        if wanted {
            self.wanted.insert(n..n + 1);
        } else {
            self.wanted.remove(n..n + 1);
        }
    }

    pub(crate) fn replace_wanted(&mut self, wanted: impl Iterator<Item = u32>) {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for n in wanted {
            match runs.last_mut().filter(|run| run.end == n) {
                Some(run) => run.end += 1,
                None => runs.push(n..n + 1),
            }
        }
        self.wanted = runs.into_iter().collect();
    }

    pub(crate) fn discard_changes(&mut self) {
        self.changed.clear();
    }

    pub(crate) fn take_changes(&mut self, workers: &WorkerTable, into: &mut JobChanges) {
        for n in std::mem::take(&mut self.changed) {
            match self.record(n, workers) {
                Some(record) => into.chunks.push(record),
                None => into.withdrawn_chunks.push(n),
            }
        }
    }

    fn record(&self, n: u32, workers: &WorkerTable) -> Option<ChunkRecord> {
        let chunk = self.get(n)?;
        let (first, holder) = (workers.server(chunk.first), workers.server(chunk.holder));
        Some(ChunkRecord { n, sha256: chunk.digest?, first, holder, confirmed: chunk.confirmed })
    }

    #[cfg(test)]
    pub(crate) fn mark_all(&mut self) {
        self.changed = (0..self.count()).collect();
    }
}
