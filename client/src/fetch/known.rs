//! What is known of a job: what its stream and the info-server said, put together without any I/O.

use std::collections::BTreeMap;

use wire::{
    Digest, FileId, Runs, ServerId,
    catalog::{Location, Manifest},
    chunks::MAX_CHUNKS,
    job::{FetchedChunk, JobInfo, JobState},
};

/// A job as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What was said of it last.
    pub(super) job: JobInfo,
    /// Rises whenever a digest that was known is withdrawn or replaced: what was verified with the old ones is to be
    /// verified again.
    pub(super) epoch: u64,
    digests: Vec<Option<Digest>>,
    holders: Vec<Option<ServerId>>,
    places: BTreeMap<ServerId, Location>,
}

impl Known {
    /// What one knows who was told this of a job.
    pub(super) fn new(job: JobInfo) -> Self {
        let mut known = Self { job, epoch: 0, digests: Vec::new(), holders: Vec::new(), places: BTreeMap::new() };
        known.forget_chunks();
        known
    }

    /// The job was told of again. What is older than what is known changes nothing.
    pub(super) fn hear_job(&mut self, job: JobInfo) {
        if job.id != self.job.id || job.generation < self.job.generation {
            return;
        }
        let withdrawn = job.generation > self.job.generation || job.file != self.job.file;
        let other_shape = job.chunks != self.job.chunks;
        self.job = job;
        if withdrawn || other_shape {
            self.forget_chunks();
            self.epoch += 1;
        }
    }

    /// Chunks were told of. Those that the job cannot have are passed over.
    pub(super) fn hear_chunks(&mut self, chunks: Vec<FetchedChunk>) {
        for FetchedChunk { n, sha256, server } in chunks {
            self.learn_digest(n, sha256);
            if let Some(holder) = usize::try_from(n).ok().and_then(|n| self.holders.get_mut(n)) {
                *holder = server;
            }
        }
    }

    /// The manifest as it is now; one of another file is passed over.
    pub(super) fn hear_manifest(&mut self, manifest: &Manifest) {
        if Some(manifest.file) != self.job.file || manifest.chunks.len() != self.digests.len() {
            return;
        }
        for (n, digest) in (0..).zip(&manifest.chunks) {
            if let Some(digest) = digest {
                self.learn_digest(n, *digest);
            }
        }
    }

    /// Where servers are, and what they are believed to hold.
    pub(super) fn hear_places(&mut self, places: Vec<Location>) {
        self.places = places.into_iter().map(|place| (place.server.clone(), place)).collect();
    }

    fn learn_digest(&mut self, n: u32, digest: Digest) {
        let Some(known) = usize::try_from(n).ok().and_then(|n| self.digests.get_mut(n)) else { return };
        if known.replace(digest).is_some_and(|before| before != digest) {
            self.epoch += 1;
        }
    }

    fn forget_chunks(&mut self) {
        // A number of chunks that no file has would be memory for nothing.
        let count = usize::try_from(self.job.chunks.min(MAX_CHUNKS)).unwrap_or(0);
        self.digests = vec![None; count];
        self.holders = vec![None; count];
    }

    /// The manifest as far as it is known; none before the origin was asked.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        let (file, size, chunk_size) = (self.job.file?, self.job.size?, self.job.chunk_size?);
        Some(Manifest { file, size, chunk_size, sha256: None, root: None, chunks: self.digests.clone() })
    }

    /// Every server whose place is known, with the chunks that it holds by any word.
    pub(super) fn sources(&self) -> Vec<Location> {
        let mut held: BTreeMap<&ServerId, Runs> = BTreeMap::new();
        for (n, holder) in (0..).zip(&self.holders) {
            if let Some(holder) = holder {
                held.entry(holder).or_default().insert(n..n + 1);
            }
        }
        let whole = |place: &Location| {
            let mut runs = place.runs.clone();
            held.get(&place.server).into_iter().flat_map(Runs::iter).for_each(|run| runs.insert(run));
            Location { runs, ..place.clone() }
        };
        self.places.values().map(whole).collect()
    }

    /// Whether chunks are held by a server whose place is not known.
    pub(super) fn lacks_places(&self) -> bool {
        self.holders.iter().flatten().any(|holder| !self.places.contains_key(holder))
    }

    /// Whether chunks are still to be fetched by somebody.
    pub(super) fn expects_more(&self) -> bool {
        matches!(self.job.state, JobState::Scheduled | JobState::Running | JobState::Checking)
            && self.holders.iter().any(Option::is_none)
    }

    /// The catalogue entry, once the origin was asked.
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

    fn place(server: &str, runs: Runs) -> Location {
        let url = "http://127.0.0.1:1/v1/files/x/content".parse().unwrap();
        Location { server: server.parse().unwrap(), zone: "eu".parse().unwrap(), url, runs, cost: 0 }
    }

    #[test]
    fn digests_and_holders_grow_and_change() {
        let mut known = Known::new(job(4, 0));
        known.hear_chunks(vec![chunk(0, "a", Some("s1")), chunk(2, "c", Some("s2")), chunk(9, "x", Some("s1"))]);
        assert!(known.lacks_places() && known.expects_more());
        known.hear_places(vec![place("s1", Runs::from(1..2)), place("s2", Runs::new())]);
        let runs = |known: &Known| known.sources().into_iter().map(|place| place.runs).collect::<Vec<_>>();
        assert_eq!(runs(&known), [Runs::from(0..2), Runs::from(2..3)]);
        known.hear_chunks(vec![chunk(2, "c", None), chunk(3, "d", Some("s3"))]);
        assert_eq!(runs(&known), [Runs::from(0..2), Runs::new()]);
        assert!(known.lacks_places());
        assert_eq!(known.epoch, 0);
        let digests = known.manifest().unwrap().chunks;
        assert_eq!(digests.iter().filter(|digest| digest.is_some()).count(), 3);
    }

    #[test]
    fn withdrawn_digests_begin_a_new_epoch_and_old_news_change_nothing() {
        let mut known = Known::new(job(2, 0));
        known.hear_chunks(vec![chunk(0, "lie", Some("s1"))]);
        known.hear_job(job(2, 1));
        assert_eq!((known.epoch, known.manifest().unwrap().chunks), (1, vec![None, None]));
        known.hear_job(job(2, 0));
        assert_eq!((known.epoch, known.job.generation), (1, 1));
        known.hear_chunks(vec![chunk(0, "a", Some("s2"))]);
        known.hear_chunks(vec![chunk(0, "b", Some("s2"))]);
        assert_eq!(known.epoch, 2, "a digest is never replaced unseen");
    }

    proptest! {
        #[test]
        fn whatever_is_said_it_stays_one_file(
            chunks in 0_u32..40_000,
            told in proptest::collection::vec((any::<u32>(), any::<bool>()), 0..50),
        ) {
            let mut known = Known::new(job(chunks, 0));
            known.hear_chunks(told.into_iter().map(|(n, held)| chunk(n % 50_000, "a", held.then_some("s1"))).collect());
            let manifest = known.manifest().unwrap();
            prop_assert_eq!(manifest.chunks.len(), usize::try_from(chunks.min(16_384)).unwrap());
            prop_assert_eq!(known.epoch, 0);
        }
    }
}
