//! Tokens: what they allow, and where that is looked up.

pub(crate) mod permission;
pub(crate) mod pruning;
pub(crate) mod token_cache;
