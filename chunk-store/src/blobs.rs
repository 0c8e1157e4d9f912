//! Files on disk and their verified chunks, which are served while the rest is still missing.

pub(crate) mod blob;
pub(crate) mod chunk_writer;
pub(crate) mod commit_queue;
pub(crate) mod directory;
mod group_commit;
mod open_blobs;
mod pending_removals;
mod recovery;
mod removal;
pub(crate) mod replica_sink;
pub(crate) mod store;
pub(crate) mod upload;
