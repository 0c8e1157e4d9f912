//! Download and upload tokens: issued by group commit, revoked by events.

pub mod group_commit;
pub(crate) mod issue;
pub mod revocation;
pub mod store;
