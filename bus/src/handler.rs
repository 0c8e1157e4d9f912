//! What a file server does with events.

use async_trait::async_trait;
use bytes::Bytes;
use wire::id::Epoch;

use crate::LogBatch;

/// How far a file server has read the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The epoch that `seq` counts in; none before the first event.
    pub epoch: Option<Epoch>,
    /// Everything of its own streams up to this number was applied.
    pub seq: u64,
    /// The highest number seen in any of them: a log that ends before it was put back to an earlier state.
    pub seen: u64,
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Applied: it is not needed any more.
    Ack,
    /// Not now (the disk is full, the database busy): it comes again after a pause.
    Retry,
    /// Never (unreadable, of an unknown version): it is set aside and does not come again.
    Park,
}

/// Messages to apply together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// What was ready in the queue, at most [`crate::MAX_BATCH`] bodies of at most [`crate::MAX_BODY`] bytes.
    Queued(Vec<Bytes>),
    /// A piece of the log that begins at the handler's [`Position`]; the handler moves its position up to the first
    /// message it answers [`Verdict::Retry`] for, or to the header's `as_of`.
    Logged(LogBatch),
}

impl Batch {
    /// The serialised events, in order.
    pub fn bodies(&self) -> &[Bytes] {
        match self {
            Self::Queued(bodies) => bodies,
            Self::Logged(batch) => &batch.lines,
        }
    }
}

/// The file server's side of a subscription. No two of its methods run at once.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Where the log is to be read from.
    async fn position(&self) -> Position;

    /// Applies messages, durably, and says of each what is to become of it. What no verdict was given for comes again.
    async fn apply(&self, batch: Batch) -> Vec<Verdict>;

    /// Up to this moment events may have been missed: read the log after [`Self::position`]. Called by the queue backend
    /// whenever it (re)joined the queue, before the first message. It should take note and return; the messages wait.
    async fn resynchronise(&self);
}
