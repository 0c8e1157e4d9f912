//! The sample of each worker's chunks that another worker fetches again.
//!
//! Invariant: at least one chunk of each worker is compared, and one in [`SAMPLE_DIVISOR`], as far as the allowance of duplicate bytes
//! and the workers that are there make it possible; which chunks are compared cannot be predicted.

use std::{collections::BTreeMap, time::Instant};

use super::super::{
    chunk_table::{Chunk, ChunkTable},
    lease_table::LeaseTable,
    worker_table::{WorkerIdx, WorkerTable},
};

/// One chunk of this many is compared, and at least one of each worker.
const SAMPLE_DIVISOR: u32 = 200;

/// Chunks that one worker reported first.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    reported: u32,
    /// Part of `reported` that is confirmed, or being compared.
    compared: u32,
}

/// The choice of chunks to compare.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Set once samples for which no worker was there are given up.
    waived: bool,
    random: u64,
}

impl Sampler {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { waived: false, random: seed | 1 }
    }

    /// Gives up samples for which no worker is there.
    pub(crate) const fn waive(&mut self) {
        self.waived = true;
    }

    /// Returns how many chunks of the duplicate-byte allowance hedges leave alone: as many as it takes to compare one chunk of each
    /// worker that was not compared yet, up to half of all. Otherwise a fast worker with wrong bytes would race the others until no
    /// allowance was left to compare it.
    pub(crate) fn reserved_chunks(&self, chunks: &ChunkTable, leases: &LeaseTable, allowed_chunks: u64) -> u64 {
        if self.waived {
            return 0;
        }
        let samples = samples(chunks, leases);
        let unseen = samples.values().filter(|sample| sample.compared == 0).count();
        let done: u32 = samples.values().map(|sample| sample.compared).sum();
        let half = (allowed_chunks / 2).max(1);
        u64::try_from(unseen).unwrap_or(u64::MAX).min(half.saturating_sub(done.into()))
    }

    /// Returns a chunk for a worker to compare, drawn at random from those of the worker that is to be sampled next.
    pub(crate) fn draw_chunk(
        &mut self,
        checker: WorkerIdx,
        chunks: &ChunkTable,
        leases: &LeaseTable,
        is_conflicting: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let sampled = self.next_sampled(Some(checker), chunks, leases)?;
        let under_check = leases.under_check();
        let open = |(n, chunk): &(u32, &Chunk)| {
            let comparable = chunk.first == Some(sampled) && !chunk.confirmed;
            comparable && !under_check.contains(*n) && !is_conflicting(*n)
        };
        let open: Vec<u32> = chunks.iter().filter(open).map(|(n, _)| n).collect();
        open.get(self.draw(open.len())).copied()
    }

    /// Returns true if a sample is due and a worker is there that could compare it.
    pub(crate) fn is_due(&self, chunks: &ChunkTable, leases: &LeaseTable, workers: &WorkerTable, now: Instant) -> bool {
        let sampled = self.next_sampled(None, chunks, leases);
        sampled.is_some_and(|sampled| workers.has_attentive(|worker| worker == sampled, now))
    }

    /// Returns the worker whose chunks are to be sampled next, other than the checker.
    fn next_sampled(&self, checker: Option<WorkerIdx>, chunks: &ChunkTable, leases: &LeaseTable) -> Option<WorkerIdx> {
        if self.waived {
            return None;
        }
        let samples = samples(chunks, leases);
        let done: u32 = samples.values().map(|sample| sample.compared).sum();
        let enough = done >= sample_size_so_far(&samples, chunks.count());
        let open = samples.into_iter().filter(|(worker, sample)| {
            Some(*worker) != checker && sample.reported > sample.compared && !(enough && sample.compared > 0)
        });
        // While spans are fetched, one sample follows the other; a worker that was never compared comes first.
        open.min_by_key(|(_, sample)| sample.compared)
            .filter(|(_, sample)| !enough || sample.compared == 0)
            .map(|(worker, _)| worker)
    }

    /// Returns a number below `below`, by xorshift: a worker must not be able to predict which chunks are compared.
    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 11).unwrap_or(0) % below.max(1)
    }
}

fn samples(chunks: &ChunkTable, leases: &LeaseTable) -> BTreeMap<WorkerIdx, Sample> {
    let mut samples: BTreeMap<WorkerIdx, Sample> = BTreeMap::new();
    let under_check = leases.under_check();
    for (n, chunk) in chunks.iter() {
        let Some(first) = chunk.first else { continue };
        let sample = samples.entry(first).or_default();
        sample.reported += 1;
        sample.compared += u32::from(chunk.confirmed || under_check.contains(n));
    }
    samples
}

/// Returns the number of chunks that should have been compared by now.
fn sample_size_so_far(samples: &BTreeMap<WorkerIdx, Sample>, count: u32) -> u32 {
    let workers = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let (reported, all) = (samples.values().map(|sample| sample.reported).sum::<u32>(), count.max(1));
    let sample = u64::from((all / SAMPLE_DIVISOR).max(workers));
    u32::try_from((sample * u64::from(reported)).div_ceil(u64::from(all))).unwrap_or(u32::MAX)
}
