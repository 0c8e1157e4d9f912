//! The file of a job as far as it is fetched, and which workers hold which of its chunks.

use std::collections::BTreeMap;

use wire::{ChunkSet, Digest, ServerId, Zone};

use super::Job;

/// The file of a job as far as it is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileView {
    /// The digest of each chunk.
    pub(crate) digests: Vec<Option<Digest>>,
    /// The chunks that live workers hold.
    pub(crate) held: BTreeMap<ServerId, ChunkSet>,
    /// The only zones whose servers may work on the job.
    pub(crate) zones: Option<Vec<Zone>>,
}

impl Job {
    /// Returns the view of the file; none when the job is over, or the file is published and the catalogue has its digests.
    pub(crate) fn file_view(&self) -> Option<FileView> {
        if !self.is_open() || self.is_published() {
            return None;
        }
        let mut held: BTreeMap<ServerId, ChunkSet> = BTreeMap::new();
        let mut digests = Vec::new();
        for (n, chunk) in self.chunks.iter() {
            if self.verifier.has_conflict(n) {
                digests.push(None);
                continue;
            }
            digests.push(chunk.digest);
            let holder = chunk.holder.filter(|worker| self.workers.is_live(*worker));
            if let Some(server) = self.workers.server(holder) {
                held.entry(server).or_default().insert(n..n + 1);
            }
        }
        Some(FileView { digests, held, zones: self.record.zones.clone() })
    }
}
