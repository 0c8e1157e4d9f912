//! Forgets what has ended, a little at a time, so that nothing grows for ever and no write waits long.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, outbox, tokens};

const EVERY: Duration = Duration::from_secs(30);
/// Rows in one transaction.
const BITE: u32 = 5_000;
/// A token is kept for a while after its end, so that a late renewal can still say whose it was.
const TOKEN_AFTERLIFE: Duration = Duration::from_secs(3600);

/// Runs until `stop`.
pub(crate) async fn run(store: Store, retention: Duration, stop: CancellationToken) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if let Err(error) = tidy(&store, retention).await {
            tracing::warn!("cannot tidy the database for now: {error:#}");
        }
    }
    Ok(())
}

async fn tidy(store: &Store, retention: Duration) -> anyhow::Result<()> {
    let now = Timestamp::now();
    loop {
        let mut write = store.write().await?;
        let events = outbox::trim(&mut write, now.checked_sub(retention)?, BITE).await?;
        let tokens = tokens::prune(&mut write, now.checked_sub(TOKEN_AFTERLIFE)?, BITE).await?;
        write.commit().await?;
        if events.max(tokens) < u64::from(BITE) {
            return Ok(());
        }
    }
}
