//! The interface between the engine and the storage of a download.

use std::io;

use wire::{ChunkIndex, Digest};

use super::error::SinkError;

/// Stores the bytes of a download.
///
/// Calls are synchronous on purpose: a positioned write into the page cache takes some ten microseconds, less than
/// handing the bytes to another thread, and the next frame cannot be read into memory before this one is written.
pub trait Sink: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`. They are not verified yet and may be overwritten later.
    ///
    /// # Errors
    /// Any error of the storage; the download then ends.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Records that all bytes of `chunk` were written and match its digest. Called once per chunk.
    ///
    /// # Errors
    /// Any error of the storage; the download then ends.
    fn verified(&self, chunk: ChunkIndex, digest: Digest) -> io::Result<()>;

    /// Explains an error of the calls above: the file concerned, and what to do.
    fn explain(&self, error: io::Error) -> SinkError;
}
