//! What is published, and to whom.

use bytes::Bytes;
use wire::{ServerId, Zone};

/// Messages in flight, and in one batch handed to a handler.
pub const MAX_BATCH: usize = 256;
/// Bytes in a message body. A larger one is not sent; one that comes nevertheless is parked unread.
pub const MAX_BODY: usize = 1024 * 1024;

/// A committed event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Unique; it tells the messages of a batch apart.
    pub id: String,
    /// `wire::event::Fact::routing_key`.
    pub routing_key: String,
    /// The serialised event.
    pub body: Bytes,
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is on disk wherever it has to be.
    Confirmed,
    /// No queue wanted it, or it cannot be sent (a body beyond [`MAX_BODY`]): the log covers it.
    Unrouted,
    /// The broker took it in, but a queue that wanted it did not confirm it in time: the log covers it there. It may still
    /// arrive.
    HeldUp,
}

/// A file server, as the bus sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id; two subscribers with one id share the messages between them.
    pub server: ServerId,
    /// Where it stands.
    pub zone: Zone,
}
