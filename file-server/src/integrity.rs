//! Verification of everything stored, in rounds.

mod manifest_digests;
pub(crate) mod reported_chunks;
pub(crate) mod scrub;
pub(crate) mod scrub_trigger;
