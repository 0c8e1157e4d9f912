//! Events from the info-server: exactly once in effect, in whatever order they arrive.

pub(crate) mod consumer;
pub(crate) mod log;
pub(crate) mod ordering;
pub(crate) mod revocation_watch;
