//! Stored bytes stay what they were, or are withdrawn before they are served again.

pub(crate) mod adoption;
pub(crate) mod chunk_checks;
mod corruption;
mod read_back;
pub(crate) mod recent_commits;
pub(crate) mod scrub;
pub(crate) mod scrub_queue;
pub(crate) mod unrecorded_blobs;
