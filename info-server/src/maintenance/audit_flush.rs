//! The task that stores counted log-in failures.

use std::{sync::Arc, time::Duration};

use lifecycle::tasks::Rounds;
use tokio_util::sync::CancellationToken;

use crate::state::State;

const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// Flushes the buffer every minute, and once more at the end.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut rounds = Rounds::new(FLUSH_INTERVAL, stop, "storing log-in failures in the audit log");
    while rounds.next().await {
        rounds.end(state.login_failures.flush(&state.db).await.map_err(anyhow::Error::from));
    }
    if let Err(error) = state.login_failures.flush(&state.db).await {
        tracing::warn!("log-in failures are missing from the audit log: {error:#}");
    }
    Ok(())
}
