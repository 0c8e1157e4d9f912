//! File servers: heartbeats, events, reconciliation, draining. `tests/http/servers.rs` tests them in process.

pub(super) mod delete_server;
pub(super) mod drain_server;
pub(super) mod list_orphans;
pub(super) mod list_servers;
pub(super) mod put_server;
pub(super) mod reconcile;
pub(super) mod show_events;
