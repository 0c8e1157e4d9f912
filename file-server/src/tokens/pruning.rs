//! Removal of tokens that are over.

use std::{sync::Arc, time::Duration};

use lifecycle::{Shutdown, fault_log::FaultLog};

use crate::state::AppState;

/// Time between two removals of expired tokens.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Removes expired tokens at intervals, until `shutdown`.
pub(crate) async fn prune_tokens(state: Arc<AppState>, max_tokens: u32, shutdown: Shutdown) -> anyhow::Result<()> {
    let faults = FaultLog::new("Expired tokens could not be removed");
    loop {
        tokio::select! {
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
        if !*state.registered.borrow() {
            // The time may be wrong; and no new tokens come in that would need the space.
            continue;
        }
        match state.db.prune_tokens(state.clock.now(), max_tokens).await {
            Ok(pruned) => {
                faults.succeeded();
                tracing::debug!(pruned, "Removed expired tokens");
            }
            Err(error) => faults.failed(error),
        }
    }
}
