//! Published messages and their subscribers.

use bytes::Bytes;
use wire::{ServerId, Zone};

/// Largest number of messages in flight, and in one batch for a handler.
pub const MAX_BATCH: usize = 256;
/// Largest message body in bytes. A larger one is not sent; one that arrives is dead-lettered unread.
pub const MAX_BODY: usize = 1024 * 1024;

/// Committed event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Unique identifier, which tells the messages of a batch apart.
    pub id: String,
    /// Result of `wire::event::EventPayload::routing_key`.
    pub routing_key: String,
    /// Serialised event.
    pub body: Bytes,
}

/// Outcome of publishing one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The message is on disk in every queue it was routed to.
    Confirmed,
    /// No queue was bound for the message, or it cannot be sent (a body beyond [`MAX_BODY`]). Servers read it from the
    /// log.
    Unrouted,
    /// A queue did not confirm the message in time, or its routing key is held back. Servers read it from the log; it
    /// may still arrive.
    Unconfirmed,
}

/// File server as a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Identifier of the file server. Two subscribers with one identifier share the messages between them.
    pub server: ServerId,
    /// Zone of the file server.
    pub zone: Zone,
}
