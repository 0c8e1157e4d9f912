//! Forgets what has ended, a little at a time, so that nothing grows for ever and no write waits long.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    app::State,
    store::{files, outbox, tokens},
};

const EVERY: Duration = Duration::from_secs(30);
/// Rows in one transaction.
const BITE: u32 = 5_000;
/// Uploads given up in one transaction; each is an event of its own.
const UPLOADS: u32 = 100;

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if let Err(error) = tidy(&state).await {
            tracing::warn!("cannot tidy the database for now: {error:#}");
        }
    }
    Ok(())
}

async fn tidy(state: &State) -> anyhow::Result<()> {
    let (store, now) = (&state.store, Timestamp::now());
    give_up_uploads(state, now).await?;
    loop {
        let mut write = store.write().await?;
        let events = outbox::trim(&mut write, now.checked_sub(state.config.events.event_retention)?, BITE).await?;
        let tokens = tokens::prune(&mut write, now, BITE).await?;
        write.commit().await?;
        if events.max(tokens) < u64::from(BITE) {
            return Ok(());
        }
    }
}

/// Nobody may write an upload any more whose token is over: what it reserved on the servers is freed.
async fn give_up_uploads(state: &State, now: Timestamp) -> anyhow::Result<()> {
    let before = now.checked_sub(state.config.access.upload_lifetime)?;
    for file in state.store.abandoned(before, UPLOADS).await? {
        let mut write = state.store.write().await?;
        let removed = files::remove(&mut write, file, now).await?;
        write.commit().await?;
        if let Some(seq) = removed {
            state.log.committed(seq);
            tracing::info!(%file, "an upload that was never finished is removed");
        }
    }
    Ok(())
}
