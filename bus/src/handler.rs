//! The file server's side of a subscription.

use async_trait::async_trait;
use bytes::Bytes;

use crate::log::{LogBatch, Position};

/// Outcome of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Applied; the message is no longer needed.
    Ack,
    /// Temporary failure (disk full, database busy); the message is delivered again after a pause.
    Retry,
    /// Permanent failure (unreadable, of an unknown version); the message is moved to the dead-letter queue and not
    /// delivered again.
    DeadLetter,
}

/// Messages to apply together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Messages that were ready in the queue: at most [`crate::MAX_BATCH`] bodies of at most [`crate::MAX_BODY`] bytes.
    Queued(Vec<Bytes>),
    /// Part of the log that begins at the handler's [`Position`]. The handler moves its position up to the first
    /// message with [`Verdict::Retry`], or to the header's `as_of`.
    Logged(LogBatch),
}

impl Batch {
    /// Returns the serialised events in order.
    pub fn bodies(&self) -> &[Bytes] {
        match self {
            Self::Queued(bodies) => bodies,
            Self::Logged(batch) => &batch.lines,
        }
    }
}

/// Consumer of a file server's events. No two of its methods run at the same time.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Returns the position from which the log is to be read.
    async fn position(&self) -> Position;

    /// Applies messages durably and returns a verdict for each. A message without a verdict is delivered again.
    async fn apply(&self, batch: Batch) -> Vec<Verdict>;

    /// Records that events may have been missed up to this moment, so that the log must be read after
    /// [`Self::position`]. The queue backend calls this whenever it has joined the queue, before the first message. The
    /// method should return at once; messages wait for it.
    async fn resynchronise(&self);
}
