//! The servers as placement and the planner see them: the registry, less what is on its way to each of them.

use std::time::{Duration, Instant};

use crate::{
    db::Database,
    fleet::{candidate::Candidate, members::Fleet},
};

/// Returns every enrolled server, with the room that replicas under way leave; those that are away for `repair_after` are lost.
pub(crate) async fn load(db: &Database, fleet: &Fleet, repair_after: Duration) -> anyhow::Result<Vec<Candidate>> {
    let in_flight = db.in_flight().await?;
    let mut servers = fleet.registry().candidates(repair_after, Instant::now());
    for server in &mut servers {
        if let Some(load) = in_flight.get(&server.id) {
            server.in_flight = load.replicas;
            server.room = server.room.saturating_sub(load.bytes);
        }
    }
    Ok(servers)
}
