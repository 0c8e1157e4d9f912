//! The durable records of what is stored. The owner keeps them, together with its own, so that one transaction can cover both.

use std::error::Error;

use async_trait::async_trait;
use wire::{ChunkLayout, ChunkSet, Digest, FileId};

/// Record of one stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRecord {
    /// The file.
    pub id: FileId,
    /// Its size and chunk size.
    pub layout: ChunkLayout,
    /// The chunks that are verified and synced.
    pub chunks: ChunkSet,
    /// SHA-256 over the digests of all chunks; set when all are stored.
    pub root: Option<Digest>,
    /// SHA-256 of the whole file; set when it was computed from disk.
    pub sha256: Option<Digest>,
}

/// A chunk whose bytes are verified and synced.
#[derive(Debug, Clone, Copy)]
pub struct NewChunk {
    /// The file.
    pub file: FileId,
    /// Number of the chunk in the file.
    pub chunk: u32,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A chunk on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedChunk {
    /// Number of the chunk in the file.
    pub chunk: u32,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A file whose bytes were found on disk without a record.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// The file.
    pub id: FileId,
    /// Its size and chunk size.
    pub layout: ChunkLayout,
    /// Its intact chunks, in ascending order.
    pub chunks: Vec<RecordedChunk>,
    /// SHA-256 of the whole file, if all chunks are intact.
    pub sha256: Option<Digest>,
    /// Set if the file is to be kept and neither served nor extended.
    pub withheld: bool,
}

/// A file whose last missing chunk was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedFile {
    /// The file.
    pub file: FileId,
    /// SHA-256 over the digests of its chunks.
    pub root: Digest,
}

/// The durable records of one [`BlobStore`](crate::BlobStore).
///
/// Whatever `add_file`, `add_chunks`, `withdraw_chunks` and `record_loss` record survives a power cut once they return.
#[async_trait]
pub trait ChunkRecords: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the record of a file; `None` when nothing of it is stored.
    async fn file(&self, id: FileId) -> Result<Option<BlobRecord>, RecordsError>;

    /// Returns the records of all files, without their chunks.
    async fn files(&self) -> Result<Vec<BlobRecord>, RecordsError>;

    /// Records a file whose blob was just made. False when the file was deleted for good.
    async fn add_file(&self, id: FileId, layout: ChunkLayout) -> Result<bool, RecordsError>;

    /// Records a file whose bytes are there, in one transaction; missing chunks are to be fetched, unless it is withheld. False
    /// when the file was deleted for good.
    async fn add_stored_file(&self, file: &StoredFile) -> Result<bool, RecordsError>;

    /// Records chunks of any files in one transaction, and returns the files that are complete now. Chunks of files without
    /// a record are passed over: they were dropped meanwhile.
    async fn add_chunks(&self, chunks: &[NewChunk]) -> Result<Vec<CompletedFile>, RecordsError>;

    /// Returns the digest of a stored chunk.
    async fn chunk_digest(&self, id: FileId, chunk: u32) -> Result<Option<Digest>, RecordsError>;

    /// Returns the stored chunks of a file in ascending order.
    async fn chunk_digests(&self, id: FileId) -> Result<Vec<RecordedChunk>, RecordsError>;

    /// Replaces the recorded digest of a stored chunk, which the record lost.
    async fn correct_digest(&self, id: FileId, chunk: RecordedChunk) -> Result<(), RecordsError>;

    /// Records that these chunks are not stored any more and are to be fetched again.
    async fn withdraw_chunks(&self, id: FileId, chunks: &[u32]) -> Result<(), RecordsError>;

    /// Records that a file's bytes are gone and are to be fetched again.
    async fn record_loss(&self, id: FileId) -> Result<(), RecordsError>;

    /// Records the SHA-256 of a complete file.
    async fn set_sha256(&self, id: FileId, sha256: Digest) -> Result<(), RecordsError>;

    /// Returns complete files whose SHA-256 is not recorded, at most `limit`, the newest first.
    async fn files_without_sha256(&self, limit: u32) -> Result<Vec<FileId>, RecordsError>;

    /// Returns true if the file's bytes are kept and neither served nor extended.
    async fn is_withheld(&self, id: FileId) -> Result<bool, RecordsError>;

    /// Returns true if an explicit decision dropped the file, so that its bytes may go.
    async fn is_dropped(&self, id: FileId) -> Result<bool, RecordsError>;
}

/// Kind of a failure of the records that decides about the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsErrorKind {
    /// No space was left.
    Full,
    /// No descriptor or connection was left.
    OutOfDescriptors,
    /// Anything else.
    Other,
}

/// Reason why the records could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RecordsError {
    kind: RecordsErrorKind,
    error: Box<dyn Error + Send + Sync>,
}

impl RecordsError {
    /// Wraps an error of the owner's database.
    pub fn new(kind: RecordsErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into() }
    }

    /// Returns true if no space was left.
    pub fn is_full(&self) -> bool {
        self.kind == RecordsErrorKind::Full
    }

    /// Returns true if no descriptor or connection was left. That passes.
    pub fn is_out_of_descriptors(&self) -> bool {
        self.kind == RecordsErrorKind::OutOfDescriptors
    }
}
