//! The read-back of complete files: all bytes are read from disk again, each chunk is compared with its digest, and the
//! SHA-256 of the whole is computed. It is reported and served only if every chunk is what was received.
//!
//! Between its sync and the completion of its file a chunk may lie on disk for hours, and other processes reach it there. So
//! a file is reported as complete only once it was read back, for which
//! [`PROMPT_TIME`](super::recent_commits::PROMPT_TIME) is enough unless it is large.

use std::{
    collections::{BTreeSet, HashMap},
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use lifecycle::{Shutdown, fault_log::FaultLog};
use tokio::task::JoinSet;
use wire::{ChunkIndex, Digest, FileId, Hasher};

use crate::{Blob, BlobError, BlobStore, run_blocking};

/// Bytes read at a time.
const BLOCK_BYTES: u64 = 1 << 20;
/// Files read back at a time: a large one must not hold up the reports of small ones.
const MAX_READ_BACKS: usize = 4;
/// Files looked up at a time.
const LOOKUP_BATCH_SIZE: u32 = 64;
/// Pause after a block, in multiples of the time that the block took on two cores: so at most half of one core is used.
const PAUSE_FACTOR: u32 = 3;
/// Pause before a file is tried again that could not be read, or was not the same twice.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// Result of a read-back.
enum Outcome {
    /// All chunks match their digests; the SHA-256 is that of the whole file.
    Intact(Digest),
    /// Chunks that differ from what was received.
    Corrupt(Vec<u32>),
    /// Bytes differed at first and matched when they were read again, so the SHA-256 is void.
    Unsteady,
}

impl BlobStore {
    /// Returns the time for which the report of a complete file without a SHA-256 still waits: it is being read back, and
    /// may turn out not to be complete.
    pub fn read_back_grace(&self, file: FileId) -> Option<Duration> {
        self.recent_commits().grace(file)
    }

    /// Reads complete files back, a few at a time, until `shutdown`. A file that it interrupts is begun anew by the next
    /// start.
    ///
    /// # Errors
    /// Never; the signature is that of a background task.
    pub async fn read_back_files(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut running: JoinSet<(FileId, Result<(), BlobError>)> = JoinSet::new();
        let (mut begun, mut failed) = (BTreeSet::new(), HashMap::<FileId, Instant>::new());
        let lookup_faults = FaultLog::new("Complete files that are to be read back cannot be looked up");
        let faults = FaultLog::new("A complete file could not be read back; trying again");
        while !finishing.is_cancelled() {
            failed.retain(|_, at| at.elapsed() < FAILURE_PAUSE);
            match self.records().files_without_sha256(LOOKUP_BATCH_SIZE).await {
                Ok(files) => {
                    lookup_faults.succeeded();
                    let free = MAX_READ_BACKS.saturating_sub(running.len());
                    let next = files.into_iter().filter(|file| !begun.contains(file) && !failed.contains_key(file));
                    for file in next.take(free).collect::<Vec<_>>() {
                        begun.insert(file);
                        let store = self.clone();
                        running.spawn(async move { (file, store.read_back(file).await) });
                    }
                }
                Err(error) => lookup_faults.failed(error),
            }
            let wait = failed.values().map(|at| FAILURE_PAUSE.saturating_sub(at.elapsed())).min();
            tokio::select! {
                Some(ended) = running.join_next() => {
                    let (file, outcome) = ended?;
                    begun.remove(&file);
                    match outcome {
                        Ok(()) | Err(BlobError::Deleted) => {}
                        Err(error) => {
                            faults.failed(format_args!("file {file}: {error}"));
                            failed.insert(file, Instant::now());
                        }
                    }
                }
                () = self.events().completed() => {}
                () = tokio::time::sleep(wait.unwrap_or(FAILURE_PAUSE)) => {}
                () = finishing.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Reads a complete file back: records its SHA-256, or withdraws its corrupt chunks.
    async fn read_back(&self, id: FileId) -> Result<(), BlobError> {
        let blob = self.find(id).await?.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        let withdrawals = blob.withdrawals();
        let outcome = self.read_through(&blob).await.inspect_err(|error| {
            if matches!(error, BlobError::Disk(_)) {
                self.scrub_queue().push(id);
            }
        })?;
        if blob.withdrawals() != withdrawals {
            // Some of it was read before it was fetched again.
            return Ok(());
        }
        match outcome {
            Outcome::Intact(sha256) => {
                self.records().set_sha256(id, sha256).await?;
                blob.set_sha256(sha256);
                self.events().notify_changed();
                tracing::info!(file = %id, %sha256, "Read back file {id}");
                Ok(())
            }
            Outcome::Corrupt(chunks) => self.withdraw_if_unchanged(&blob, withdrawals, &chunks).await.map(drop),
            Outcome::Unsteady => Err(std::io::Error::other("its bytes differ from one read to the next").into()),
        }
    }

    async fn read_through(&self, blob: &Arc<Blob>) -> Result<Outcome, BlobError> {
        let digests: HashMap<u32, Digest> =
            self.records().chunk_digests(blob.id()).await?.into_iter().map(|held| (held.chunk, held.digest)).collect();
        let (mut whole, mut corrupt, mut unsteady) = (Hasher::new(), Vec::new(), false);
        for chunk in blob.layout().chunks() {
            let (after, found) = self.read_chunk(blob, chunk, whole).await?;
            whole = after;
            let expected = digests.get(&chunk.get());
            if expected == Some(&found) {
                continue;
            }
            // Once more: memory errs as well, and a chunk should not be withdrawn for it.
            match self.read_chunk(blob, chunk, Hasher::new()).await? {
                (_, again) if expected == Some(&again) => unsteady = true,
                _ => corrupt.push(chunk.get()),
            }
        }
        Ok(match (corrupt.is_empty(), unsteady) {
            (false, _) => Outcome::Corrupt(corrupt),
            (true, true) => Outcome::Unsteady,
            (true, false) => Outcome::Intact(whole.finish()),
        })
    }

    /// Reads a chunk, adds its bytes to the hash of the whole file, and returns its digest.
    async fn read_chunk(
        &self,
        blob: &Arc<Blob>,
        chunk: ChunkIndex,
        mut whole: Hasher,
    ) -> Result<(Hasher, Digest), BlobError> {
        let bytes = blob.layout().bytes_of(chunk);
        let (mut hasher, mut at) = (Hasher::new(), bytes.start);
        while at < bytes.end {
            if blob.is_deleted() {
                return Err(BlobError::Deleted);
            }
            let begun = Instant::now();
            let length = BLOCK_BYTES.min(bytes.end - at);
            let block = read_block(blob.clone(), at, length).await?;
            (whole, hasher) = tokio::try_join!(hash(whole, block.clone()), hash(hasher, block))?;
            at = at.saturating_add(length);
            if self.read_back_grace(blob.id()).is_none() {
                tokio::time::sleep(begun.elapsed().saturating_mul(PAUSE_FACTOR)).await;
            }
        }
        Ok((whole, hasher.finish()))
    }
}

async fn read_block(blob: Arc<Blob>, at: u64, length: u64) -> std::io::Result<Arc<Vec<u8>>> {
    let id = blob.id();
    let read = run_blocking(move || {
        let mut block = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        blob.file().read_exact_at(&mut block, at)?;
        Ok(Arc::new(block))
    });
    read.await.inspect_err(|error| tracing::debug!(file = %id, %error, at, "File {id} cannot be read"))
}

async fn hash(mut hasher: Hasher, block: Arc<Vec<u8>>) -> std::io::Result<Hasher> {
    run_blocking(move || {
        hasher.update(&block);
        Ok(hasher)
    })
    .await
}
