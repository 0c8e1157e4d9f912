//! The way of every chunk into a blob, whether it is uploaded, replicated or fetched from a URL: it is written at its place
//! by one writer at a time, and counts once it was synced.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use wire::{Digest, Hasher};

use super::blob::WritePermit;
use crate::{BlobError, disk::DiskPermits, run_blocking, with_disk_timeout};

/// Bytes buffered before a thread hashes and writes them.
const BUFFER_BYTES: usize = 128 * 1024;

/// Writer of one chunk. Dropping it abandons the chunk.
#[derive(Debug)]
pub struct ChunkWriter {
    /// Absent after a step that failed: no more bytes are accepted then.
    open: Option<OpenChunk>,
    disk: DiskPermits,
    buffer: Vec<Bytes>,
    buffered: usize,
    received: u64,
    expected: u64,
}

/// The chunk as far as it is written. It moves to the threads that may wait for a disk, and back.
#[derive(Debug)]
struct OpenChunk {
    permit: WritePermit,
    hasher: Hasher,
    position: u64,
}

/// A chunk whose bytes are all written, and not yet synced.
#[derive(Debug)]
pub struct WrittenChunk {
    pub(super) permit: WritePermit,
    pub(super) digest: Digest,
}

impl WrittenChunk {
    /// Returns the SHA-256 of the written bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl ChunkWriter {
    pub(super) fn new(permit: WritePermit, disk: DiskPermits) -> Self {
        let bytes = permit.blob().layout().bytes_of(permit.chunk());
        Self {
            open: Some(OpenChunk { permit, hasher: Hasher::new(), position: bytes.start }),
            disk,
            buffer: Vec::new(),
            buffered: 0,
            received: 0,
            expected: bytes.end - bytes.start,
        }
    }

    /// Returns the bytes that are still to come.
    pub const fn remaining(&self) -> u64 {
        self.expected - self.received
    }

    /// Hashes and writes the next bytes of the chunk.
    ///
    /// # Errors
    /// When there are more bytes than the chunk has, when the file was deleted, or when the disk fails or stalls.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > self.remaining() {
            return Err(BlobError::Length { expected: self.expected });
        }
        self.received += len;
        self.buffered += bytes.len();
        self.buffer.push(bytes);
        if self.buffered >= BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes what is buffered, and returns the chunk, which must have come whole.
    ///
    /// # Errors
    /// As [`Self::write`], and when bytes are missing.
    pub async fn finish(mut self) -> Result<WrittenChunk, BlobError> {
        if self.remaining() > 0 {
            return Err(BlobError::Length { expected: self.expected });
        }
        self.flush().await?;
        let OpenChunk { permit, hasher, .. } = self.open.ok_or(BlobError::BodyIncomplete)?;
        Ok(WrittenChunk { permit, digest: hasher.finish() })
    }

    /// Returns the chunk, all of whose bytes the caller has written itself and compared with `digest`.
    pub(super) fn finish_verified(self, digest: Digest) -> Option<WrittenChunk> {
        self.open.map(|open| WrittenChunk { permit: open.permit, digest })
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        let open = self.open.take().ok_or(BlobError::BodyIncomplete)?;
        if open.permit.blob().is_deleted() {
            return Err(BlobError::Deleted);
        }
        self.buffered = 0;
        let bytes = std::mem::take(&mut self.buffer);
        self.open = Some(open.write(bytes, self.disk.write().await?).await?);
        Ok(())
    }
}

impl OpenChunk {
    async fn write(mut self, frames: Vec<Bytes>, permit: OwnedSemaphorePermit) -> Result<Self, BlobError> {
        let written = run_blocking(move || {
            let _permit = permit;
            for frame in frames {
                self.hasher.update(&frame);
                self.permit.blob().write_at(&frame, self.position)?;
                self.position = self.position.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
            }
            Ok(self)
        });
        with_disk_timeout(async { Ok(written.await?) }).await
    }
}
