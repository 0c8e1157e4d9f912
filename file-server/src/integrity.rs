//! Verification of everything stored, in rounds.

pub(crate) mod reported_chunks;
pub(crate) mod scrub;
pub(crate) mod scrub_trigger;
