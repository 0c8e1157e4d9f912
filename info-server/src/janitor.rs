//! Forgets what has ended, a little at a time, so that nothing grows for ever and no write waits long.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    app::State,
    store::{
        Write,
        audit::{self, Kind},
        files, outbox, tokens,
    },
};

/// Between two rounds at most; events are looked at more often when they are kept for less than two minutes.
const EVERY: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(500);
/// Rows in one transaction.
const BITE: u32 = 5_000;
/// Uploads given up in one transaction; each is an event of its own.
const UPLOADS: u32 = 100;

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let every = (state.config.events.event_retention / 4).clamp(SHORTEST, EVERY);
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        if let Err(error) = tidy(&state).await {
            tracing::warn!("cannot tidy the database for now: {error:#}");
        }
    }
    Ok(())
}

async fn tidy(state: &State) -> anyhow::Result<()> {
    let (store, now) = (&state.store, Timestamp::now());
    give_up_uploads(state, now).await?;
    trim_audit(state, now).await?;
    loop {
        let mut write = store.write().await?;
        let events = outbox::trim(&mut write, now.checked_sub(state.config.events.event_retention)?, BITE).await?;
        let tokens = tokens::prune(&mut write, now, BITE).await?;
        let files = purge(state, &mut write, now).await?;
        write.commit().await?;
        if events.max(tokens).max(files) < u64::from(BITE) {
            return Ok(());
        }
    }
}

/// A server that is away may hold what was deleted since: as long as one is, the catalogue remembers what was.
async fn purge(state: &State, write: &mut Write, now: Timestamp) -> anyhow::Result<u64> {
    let seen = state.registry().all_have_seen(state.store.epoch());
    let before = now.checked_sub(state.config.access.upload_lifetime)?;
    match seen {
        Some(seen) => Ok(files::purge(write, seen, before, BITE).await?),
        None => Ok(0),
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

async fn trim_audit(state: &State, now: Timestamp) -> anyhow::Result<()> {
    let (store, limits) = (&state.store, &state.config.audit);
    let before = now.checked_sub(limits.audit_age)?;
    loop {
        let mut write = store.write().await?;
        let trimmed = audit::trim_older(&mut write, before, BITE).await?;
        write.commit().await?;
        if trimmed < u64::from(BITE) {
            break;
        }
    }
    for kind in Kind::ALL {
        while let Some(last) = store.audit_surplus(kind, limits.audit_rows).await? {
            let mut write = store.write().await?;
            audit::trim_kind(&mut write, kind, last, BITE).await?;
            write.commit().await?;
        }
    }
    Ok(())
}
