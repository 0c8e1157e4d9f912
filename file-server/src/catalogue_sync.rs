//! Agreement with the catalogue about the files that are stored here.

pub mod orphans;
pub(crate) mod rebuild;
pub(crate) mod reconcile;
