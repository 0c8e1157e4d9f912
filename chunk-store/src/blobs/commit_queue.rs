//! Written chunks that wait for their commit.

use tokio::sync::{mpsc, oneshot};
use wire::Digest;

use super::{blob::WritePermit, chunk_writer::WrittenChunk};
use crate::BlobError;

/// Written chunks that may wait for the next sync.
const MAX_QUEUED_CHUNKS: usize = 1024;

/// Answer to the writer of a chunk: it counts, or the reason why it does not.
pub(super) type Committed = oneshot::Receiver<Result<(), BlobError>>;

/// Entrance to the queue.
pub(crate) type CommitSender = mpsc::Sender<PendingChunk>;

/// A written and verified chunk that waits for its commit.
#[derive(Debug)]
pub(crate) struct PendingChunk {
    pub(super) permit: WritePermit,
    pub(super) digest: Digest,
    pub(super) done: oneshot::Sender<Result<(), BlobError>>,
}

/// The chunks that wait for their commit.
#[derive(Debug)]
pub struct CommitQueue(mpsc::Receiver<PendingChunk>);

impl CommitQueue {
    /// Returns an empty queue and its entrance.
    pub(super) fn new() -> (CommitSender, Self) {
        let (sender, queue) = mpsc::channel(MAX_QUEUED_CHUNKS);
        (sender, Self(queue))
    }

    /// Waits for chunks and adds at most `limit` of them to `batch`; returns their number, 0 once the entrance is closed.
    pub(super) async fn next_batch(&mut self, batch: &mut Vec<PendingChunk>, limit: usize) -> usize {
        self.0.recv_many(batch, limit).await
    }
}

impl PendingChunk {
    /// Returns the chunk for the queue, and the answer that its writer waits for.
    pub(super) fn new(WrittenChunk { permit, digest }: WrittenChunk) -> (Self, Committed) {
        let (done, committed) = oneshot::channel();
        (Self { permit, digest, done }, committed)
    }
}
