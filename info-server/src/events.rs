//! Events: facts on their way to the file servers.

pub(crate) mod broadcast_watch;
pub mod log;
pub mod outbox;
pub(crate) mod relay;
pub(crate) mod snapshot;
