//! Sources: servers that serve chunks, and the requests to them.

mod client;
mod cursor;
mod failure;
mod fetch;
mod partial_chunks;
pub(crate) mod refusal;
mod request_progress;
mod response;

use wire::catalogue::Location;

pub use self::client::{CONNECT_TIMEOUT, client_builder};
pub(crate) use self::{
    cursor::ChunkCursor,
    failure::Failure,
    fetch::{Fetch, RequestEvent},
    partial_chunks::PartialChunks,
    request_progress::RequestProgress,
};

#[cfg(test)]
pub(crate) use self::partial_chunks::{ChunkVerdict, ReceivingChunk};

/// A server that serves chunks.
#[derive(Debug, Clone)]
pub struct Source {
    /// The server, its URL, and the chunks that it holds.
    pub location: Location,
    /// Distance, 0 for the own zone: a source receives no request while a nearer one is live that holds the chunk.
    pub tier: u8,
}
