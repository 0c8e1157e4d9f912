//! Health, metrics and the description of the interface. `tests/http/system.rs` tests them in process.

pub(super) mod health;
pub(super) mod show_docs;
pub(super) mod show_metrics;
pub(super) mod show_root;
