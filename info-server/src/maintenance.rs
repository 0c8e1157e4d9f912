//! Upkeep of the database: deletion of what has ended, backups.

pub(crate) mod audit_flush;
pub mod backup;
pub(crate) mod garbage_collector;
pub(crate) mod storage_watch;
pub mod store;
