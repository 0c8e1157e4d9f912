//! A chunk on its way in, by whatever way it comes: hashed while it is written at its place; it counts once it was synced.

use std::{os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wire::{ChunkIndex, Digest, Hasher};

use super::{Blob, BlobError, Blobs, blob::Turn, blocking, commit::Verified, in_time};

/// Bytes gathered before a thread is asked to hash and write them.
const GATHERED: usize = 128 * 1024;

/// A chunk that is being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Gone after a step that failed: nothing more is taken then.
    written: Option<Written>,
    gathered: Vec<Bytes>,
    waiting: usize,
    seen: u64,
    expected: u64,
}

/// What was written so far. It travels to the threads that may wait for a disk, and back.
#[derive(Debug)]
struct Written {
    turn: Turn,
    hasher: Hasher,
    at: u64,
}

/// A chunk all of whose bytes are written.
#[derive(Debug)]
pub(crate) struct Arrived {
    turn: Turn,
    /// What the bytes are.
    pub(crate) digest: Digest,
}

impl Incoming {
    /// Begins with the chunk of this turn.
    pub(super) fn new(turn: Turn) -> Self {
        let place = turn.blob.layout.bytes_of(turn.chunk);
        Self {
            written: Some(Written { turn, hasher: Hasher::new(), at: place.start }),
            gathered: Vec::new(),
            waiting: 0,
            seen: 0,
            expected: place.end - place.start,
        }
    }

    /// Bytes that are still to come.
    pub(crate) const fn left(&self) -> u64 {
        self.expected - self.seen
    }
}

impl Blobs {
    /// Begins to receive a chunk, when nobody else does; `None` when it is held already.
    pub(crate) async fn begin(&self, blob: &Arc<Blob>, chunk: ChunkIndex) -> Option<Incoming> {
        let turn = blob.turn(chunk).await;
        (!blob.holds(chunk)).then(|| Incoming::new(turn))
    }

    /// Takes the next bytes. More than belong to the chunk are refused.
    pub(crate) async fn take(&self, incoming: &mut Incoming, bytes: Bytes) -> Result<(), BlobError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > incoming.left() {
            return Err(BlobError::Length { expected: incoming.expected });
        }
        incoming.seen += len;
        incoming.waiting += bytes.len();
        incoming.gathered.push(bytes);
        if incoming.waiting >= GATHERED { self.write(incoming).await } else { Ok(()) }
    }

    /// Writes what is left; the chunk must have come whole.
    pub(crate) async fn arrive(&self, mut incoming: Incoming) -> Result<Arrived, BlobError> {
        if incoming.left() > 0 {
            return Err(BlobError::Length { expected: incoming.expected });
        }
        self.write(&mut incoming).await?;
        let Written { turn, hasher, .. } = incoming.written.ok_or(BlobError::Broken)?;
        Ok(Arrived { turn, digest: hasher.finish() })
    }

    /// Makes a chunk count; answers once it is synced.
    pub(crate) async fn count_once_synced(&self, Arrived { turn, digest }: Arrived) -> Result<(), BlobError> {
        let counted = async {
            let (done, synced) = oneshot::channel();
            self.commits.send(Verified { turn, digest, done }).await.map_err(|_| BlobError::Unsynced)?;
            synced.await.map_err(|_| BlobError::Unsynced)?
        };
        in_time(counted).await
    }

    async fn write(&self, incoming: &mut Incoming) -> Result<(), BlobError> {
        let written = incoming.written.take().ok_or(BlobError::Broken)?;
        if written.turn.blob.is_deleted() {
            return Err(BlobError::Deleted);
        }
        incoming.waiting = 0;
        let bytes = std::mem::take(&mut incoming.gathered);
        incoming.written = Some(written.write(bytes, self.writer().await?).await?);
        Ok(())
    }
}

impl Written {
    async fn write(mut self, frames: Vec<Bytes>, writer: OwnedSemaphorePermit) -> Result<Self, BlobError> {
        let written = blocking(move || {
            let _writer = writer;
            for frame in frames {
                self.hasher.update(&frame);
                self.turn.blob.file.write_all_at(&frame, self.at)?;
                self.at = self.at.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
            }
            Ok(self)
        });
        in_time(async { Ok(written.await?) }).await
    }
}
