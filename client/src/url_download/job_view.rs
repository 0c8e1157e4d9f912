//! A job as its requester sees it: events and answers combined, without I/O.

use std::collections::BTreeMap;

use wire::{
    ChunkSet, Digest, FileId, ServerId,
    catalogue::{Location, Manifest},
    chunks::MAX_CHUNKS,
    job::{FetchedChunk, JobInfo, JobState},
};

/// View of a job.
#[derive(Debug, Clone)]
pub(super) struct JobView {
    /// Latest state of the job.
    pub(super) job: JobInfo,
    /// Number that rises when a digest is withdrawn or replaced: chunks verified with the old ones must be verified again.
    pub(super) epoch: u64,
    digests: Vec<Option<Digest>>,
    holders: Vec<Option<ServerId>>,
    locations: BTreeMap<ServerId, Location>,
}

impl JobView {
    /// Returns the view of a job without any chunk.
    pub(super) fn new(job: JobInfo) -> Self {
        let mut view = Self { job, epoch: 0, digests: Vec::new(), holders: Vec::new(), locations: BTreeMap::new() };
        view.clear_chunks();
        view
    }

    /// Applies a new state of the job. An older one changes nothing.
    pub(super) fn apply_job(&mut self, job: JobInfo) {
        if job.id != self.job.id || job.generation < self.job.generation {
            return;
        }
        let withdrawn = job.generation > self.job.generation || job.file != self.job.file;
        let other_shape = job.chunks != self.job.chunks;
        self.job = job;
        if withdrawn || other_shape {
            self.clear_chunks();
            self.epoch += 1;
        }
    }

    /// Applies digests and holders of chunks. Chunks outside of the file are skipped.
    pub(super) fn apply_chunks(&mut self, chunks: Vec<FetchedChunk>) {
        for FetchedChunk { n, sha256, server } in chunks {
            self.set_digest(n, sha256);
            if let Some(holder) = usize::try_from(n).ok().and_then(|n| self.holders.get_mut(n)) {
                *holder = server;
            }
        }
    }

    /// Applies a manifest. One of another file is skipped.
    pub(super) fn apply_manifest(&mut self, manifest: &Manifest) {
        if Some(manifest.file) != self.job.file || manifest.chunks.len() != self.digests.len() {
            return;
        }
        for (n, digest) in (0..).zip(&manifest.chunks) {
            if let Some(digest) = digest {
                self.set_digest(n, *digest);
            }
        }
    }

    /// Applies the addresses of servers and the chunks that the info-server has recorded for them.
    pub(super) fn apply_locations(&mut self, locations: Vec<Location>) {
        self.locations = locations.into_iter().map(|location| (location.server.clone(), location)).collect();
    }

    fn set_digest(&mut self, n: u32, digest: Digest) {
        let Some(known) = usize::try_from(n).ok().and_then(|n| self.digests.get_mut(n)) else { return };
        if known.replace(digest).is_some_and(|before| before != digest) {
            self.epoch += 1;
        }
    }

    fn clear_chunks(&mut self) {
        // Bounds the memory for a number of chunks that no file has.
        let count = usize::try_from(self.job.chunks.min(MAX_CHUNKS)).unwrap_or(0);
        self.digests = vec![None; count];
        self.holders = vec![None; count];
    }

    /// Returns the manifest with the digests known so far. None before the origin was probed.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        let (file, size, chunk_size) = (self.job.file?, self.job.size?, self.job.chunk_size?);
        Some(Manifest { file, size, chunk_size, sha256: None, root: None, chunks: self.digests.clone() })
    }

    /// Returns every server with a known address, with the chunks that any report says it holds.
    pub(super) fn locations(&self) -> Vec<Location> {
        let mut held: BTreeMap<&ServerId, ChunkSet> = BTreeMap::new();
        for (n, holder) in (0..).zip(&self.holders) {
            if let Some(holder) = holder {
                held.entry(holder).or_default().insert(n..n + 1);
            }
        }
        let merged = |location: &Location| {
            let mut runs = location.runs.clone();
            held.get(&location.server).into_iter().flat_map(ChunkSet::iter).for_each(|run| runs.insert(run));
            Location { runs, ..location.clone() }
        };
        self.locations.values().map(merged).collect()
    }

    /// Returns true if a server with chunks has no known address.
    pub(super) fn lacks_locations(&self) -> bool {
        self.holders.iter().flatten().any(|holder| !self.locations.contains_key(holder))
    }

    /// Returns true if workers are still to fetch chunks.
    pub(super) fn expects_more(&self) -> bool {
        matches!(self.job.state, JobState::Scheduled | JobState::Running | JobState::Checking)
            && self.holders.iter().any(Option::is_none)
    }

    /// Returns the catalogue entry of the file, once the origin was probed.
    pub(super) const fn file(&self) -> Option<FileId> {
        self.job.file
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn job(chunks: u32, generation: u32) -> JobInfo {
        serde_json::from_value(json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "url": "https://example.org/x.bin", "name": "x.bin",
            "state": "running", "file": "01890a5d-ac96-774b-bcce-b302099a8058", "size": u64::from(chunks) << 20,
            "chunk_size": 1 << 20, "generation": generation, "connections": 1, "start_at": "2026-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z", "keep": false, "chunks": chunks, "fetched": 0, "workers": [], "askers": 1,
        }))
        .unwrap()
    }

    fn chunk(n: u32, text: &str, server: Option<&str>) -> FetchedChunk {
        FetchedChunk { n, sha256: Digest::of(text.as_bytes()), server: server.map(|id| id.parse().unwrap()) }
    }

    fn location(server: &str, runs: ChunkSet) -> Location {
        let url = "http://127.0.0.1:1/v1/files/x/content".parse().unwrap();
        Location { server: server.parse().unwrap(), zone: "eu".parse().unwrap(), url, runs, cost: 0 }
    }

    #[test]
    fn digests_and_holders_grow_and_change() {
        let mut view = JobView::new(job(4, 0));
        view.apply_chunks(vec![chunk(0, "a", Some("s1")), chunk(2, "c", Some("s2")), chunk(9, "x", Some("s1"))]);
        assert!(view.lacks_locations() && view.expects_more());
        view.apply_locations(vec![location("s1", ChunkSet::from(1..2)), location("s2", ChunkSet::new())]);
        let runs = |view: &JobView| view.locations().into_iter().map(|location| location.runs).collect::<Vec<_>>();
        assert_eq!(runs(&view), [ChunkSet::from(0..2), ChunkSet::from(2..3)]);
        view.apply_chunks(vec![chunk(2, "c", None), chunk(3, "d", Some("s3"))]);
        assert_eq!(runs(&view), [ChunkSet::from(0..2), ChunkSet::new()]);
        assert!(view.lacks_locations());
        assert_eq!(view.epoch, 0);
        let digests = view.manifest().unwrap().chunks;
        assert_eq!(digests.iter().filter(|digest| digest.is_some()).count(), 3);
    }

    #[test]
    fn withdrawn_digests_start_a_new_epoch_and_older_states_change_nothing() {
        let mut view = JobView::new(job(2, 0));
        view.apply_chunks(vec![chunk(0, "wrong", Some("s1"))]);
        view.apply_job(job(2, 1));
        assert_eq!((view.epoch, view.manifest().unwrap().chunks), (1, vec![None, None]));
        view.apply_job(job(2, 0));
        assert_eq!((view.epoch, view.job.generation), (1, 1));
        view.apply_chunks(vec![chunk(0, "a", Some("s2"))]);
        view.apply_chunks(vec![chunk(0, "b", Some("s2"))]);
        assert_eq!(view.epoch, 2, "a replaced digest starts a new epoch");
    }

    proptest! {
        #[test]
        fn no_report_changes_the_shape_of_the_file(
            chunks in 0_u32..40_000,
            reported in proptest::collection::vec((any::<u32>(), any::<bool>()), 0..50),
        ) {
            let mut view = JobView::new(job(chunks, 0));
            view.apply_chunks(reported.into_iter().map(|(n, held)| chunk(n % 50_000, "a", held.then_some("s1"))).collect());
            let manifest = view.manifest().unwrap();
            prop_assert_eq!(manifest.chunks.len(), usize::try_from(chunks.min(16_384)).unwrap());
            prop_assert_eq!(view.epoch, 0);
        }
    }
}
