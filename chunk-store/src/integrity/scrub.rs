//! Verification: stored chunks are read again from disk and compared with their digests. What a disk returns later is not
//! always what it was given.

use std::{
    io,
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use rustix::fs::Advice;
use transfer::rate_limiter::{Bucket, worthwhile_wait};
use wire::{Digest, FileId, Hasher};

use crate::{Blob, BlobError, BlobStore, RecordedChunk, ReportedChunk, run_blocking, with_disk_timeout};

/// Bytes read at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// Result of the verification of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkVerdict {
    /// Chunk that matches its digest.
    Intact,
    /// Chunk that did not match its digest and was withdrawn.
    Corrupt,
    /// Chunk that is not stored, or not any more.
    NotHeld,
}

/// Digests that the catalogue has. The records here may err, too.
#[async_trait]
pub trait CatalogueDigests: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the digest of a chunk; `None` when the catalogue has none, or does not answer now.
    async fn digest(&self, file: FileId, chunk: u32) -> Option<Digest>;
}

/// Digest of bytes that were read from disk.
enum ReadDigest {
    Read(Digest),
    /// The disk does not return the bytes.
    Unreadable,
    /// The verification was interrupted.
    Interrupted,
}

/// Verifies stored files at a bounded rate.
#[derive(Debug)]
pub struct ChunkVerifier {
    store: Arc<BlobStore>,
    catalogue: Arc<dyn CatalogueDigests>,
    rate: Bucket,
    interrupted: AtomicBool,
}

impl ChunkVerifier {
    /// Returns a verifier that reads at most `rate` bytes per second.
    pub fn new(store: Arc<BlobStore>, catalogue: Arc<dyn CatalogueDigests>, rate: u64) -> Self {
        Self { store, catalogue, rate: Bucket::new(rate), interrupted: AtomicBool::new(false) }
    }

    /// Ends the present verification early, without a result.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Accepts verifications again. True if it was interrupted.
    pub fn resume(&self) -> bool {
        self.interrupted.swap(false, Ordering::Relaxed)
    }

    /// Compares one file with the digests of its chunks; withdraws corrupt chunks, and drops a lost file.
    ///
    /// # Errors
    /// When the disk stalls, or the records cannot be read or written.
    pub async fn verify(&self, file: FileId) -> Result<(), BlobError> {
        let store = &self.store;
        if store.drop_if_lost(file).await? {
            return Ok(());
        }
        // Bytes are verified where the next start will look for them.
        store.close_if_replaced(file).await?;
        let digests = store.records().chunk_digests(file).await?;
        let Some(blob) = with_disk_timeout(store.find(file)).await? else { return Ok(()) };
        for recorded in digests {
            self.check(&blob, recorded).await?;
            if blob.is_deleted() {
                break;
            }
        }
        Ok(())
    }

    /// Compares one chunk with its digest; withdraws it if it is corrupt, and drops a lost file.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_chunk(&self, reported: ReportedChunk) -> Result<ChunkVerdict, BlobError> {
        let ReportedChunk { file, chunk } = reported;
        let store = &self.store;
        if store.drop_if_lost(file).await? {
            return Ok(ChunkVerdict::Corrupt);
        }
        store.close_if_replaced(file).await?;
        let Some(digest) = store.records().chunk_digest(file, chunk).await? else { return Ok(ChunkVerdict::NotHeld) };
        let Some(blob) = with_disk_timeout(store.find(file)).await? else { return Ok(ChunkVerdict::NotHeld) };
        self.check(&blob, RecordedChunk { chunk, digest }).await
    }

    async fn check(&self, blob: &Arc<Blob>, recorded: RecordedChunk) -> Result<ChunkVerdict, BlobError> {
        let RecordedChunk { chunk: n, digest } = recorded;
        let held = blob.layout().chunk(n).filter(|chunk| blob.holds(*chunk));
        let Some(chunk) = held else { return Ok(ChunkVerdict::NotHeld) };
        let (bytes, seen) = (blob.layout().bytes_of(chunk), blob.withdrawals());
        let mut found = None;
        // Twice: memory errs as well, and a chunk should not be withdrawn for it.
        for _ in 0..2 {
            found = match self.read_digest(blob, &bytes).await? {
                // It is read again soon.
                ReadDigest::Interrupted => return Ok(ChunkVerdict::Intact),
                ReadDigest::Read(read) if read == digest => return Ok(ChunkVerdict::Intact),
                ReadDigest::Read(read) => Some(read),
                ReadDigest::Unreadable => None,
            };
        }
        if let Some(digest) = found
            && self.catalogue.digest(blob.id(), n).await == Some(digest)
            && self.store.correct_digest_if_unchanged(blob, seen, RecordedChunk { chunk: n, digest }).await?
        {
            return Ok(ChunkVerdict::Intact);
        }
        if self.store.drop_if_lost(blob.id()).await? {
            return Ok(ChunkVerdict::Corrupt);
        }
        let withdrawn = self.store.withdraw_if_unchanged(blob, seen, &[n]).await?;
        Ok(if withdrawn { ChunkVerdict::Corrupt } else { ChunkVerdict::NotHeld })
    }

    async fn read_digest(&self, blob: &Arc<Blob>, bytes: &Range<u64>) -> Result<ReadDigest, BlobError> {
        let mut hasher = Hasher::new();
        let mut at = bytes.start;
        while at < bytes.end {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(ReadDigest::Interrupted);
            }
            let block = at..bytes.end.min(at.saturating_add(BLOCK_BYTES));
            let now = Instant::now();
            if let Some(wait) = worthwhile_wait(self.rate.reserve(block.end - block.start, now), now) {
                tokio::time::sleep(wait).await;
            }
            at = block.end;
            let reading = blob.clone();
            // A stalled disk says nothing about the bytes.
            match with_disk_timeout(async { Ok(run_blocking(move || read_from_disk(&reading, &block)).await) }).await? {
                Ok(content) => hasher.update(&content),
                Err(error) => {
                    tracing::error!(file = %blob.id(), %error, at, "File {} cannot be read", blob.id());
                    return Ok(ReadDigest::Unreadable);
                }
            }
        }
        self.store.metrics().scrubbed_bytes.inc_by(bytes.end - bytes.start);
        Ok(ReadDigest::Read(hasher.finish()))
    }
}

/// Reads from the disk what may be in the page cache as well, and leaves in the cache what was there.
fn read_from_disk(blob: &Blob, bytes: &Range<u64>) -> io::Result<Vec<u8>> {
    let length = bytes.end.saturating_sub(bytes.start);
    let was_in_memory = blob.is_in_memory(bytes, BLOCK_BYTES).unwrap_or(true);
    let evict = || {
        // Advice only: where it is not taken, bytes are read from memory, or stay there.
        let _ = rustix::fs::fadvise(&**blob.file(), bytes.start, NonZeroU64::new(length), Advice::DontNeed);
    };
    evict();
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    blob.file().read_exact_at(&mut content, bytes.start)?;
    if !was_in_memory {
        evict();
    }
    Ok(content)
}
