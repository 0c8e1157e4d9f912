//! The file servers that may work on jobs now.

use std::time::Instant;

use super::model::worker_table::{LiveServer, LiveServers};
use crate::fleet::{members::Fleet, server::EnrolledServer};

/// Returns the servers whose registration lease runs.
pub(crate) fn live_servers(fleet: &Fleet) -> LiveServers {
    let live_server = |server: &EnrolledServer| LiveServer { zone: server.zone.clone(), instance: server.instance };
    fleet.registry().serving(Instant::now()).map(|server| (server.id.clone(), live_server(server))).collect()
}
