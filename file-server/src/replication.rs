//! Files fetched from other file servers.

mod held_chunks;
mod replica_standing;
mod replication_error;
pub(crate) mod replicator;
mod source_tracker;
