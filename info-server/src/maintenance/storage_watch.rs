//! The task that sees when a database that took no writes takes them again.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::state::State;

const TRIAL_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(TRIAL_INTERVAL)).await.is_some() {
        // A fault was logged when it began.
        if let Err(error) = state.db.try_again().await {
            state.db.note_failure(&error.into());
        }
    }
    Ok(())
}
