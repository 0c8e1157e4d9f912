//! The task that deletes what has ended, a little at a time, so that nothing grows for ever and no write waits long.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use lifecycle::tasks::Rounds;
use tokio_util::sync::CancellationToken;

use crate::{
    accounts::{audit::AuditKind, store::audit},
    catalogue,
    db::{Write, idempotency},
    events::outbox,
    replication::removal,
    state::State,
    tokens,
};

/// Longest time between two rounds; events that are kept for less than two minutes are collected more often.
const MAX_INTERVAL: Duration = Duration::from_secs(30);
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Rows in one transaction.
const TRANSACTION_BATCH_SIZE: u32 = 5_000;
/// Abandoned uploads removed in one round; each is an event of its own.
const MAX_UPLOADS_PER_ROUND: u32 = 100;

/// Runs until `stop`.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    let interval = (state.config.events.event_retention / 4).clamp(MIN_INTERVAL, MAX_INTERVAL);
    let mut rounds = Rounds::new(interval, stop, "deleting ended rows from the database");
    while rounds.next().await {
        rounds.end(collect(&state).await);
    }
    Ok(())
}

async fn collect(state: &State) -> anyhow::Result<()> {
    let (db, now) = (&state.db, Timestamp::now());
    remove_abandoned_uploads(state, now).await?;
    trim_audit(state, now).await?;
    loop {
        let mut write = db.write().await?;
        let before = now.checked_sub(state.config.events.event_retention)?;
        let events = outbox::trim(&mut write, before, TRANSACTION_BATCH_SIZE).await?;
        let tokens = tokens::store::prune(&mut write, now, TRANSACTION_BATCH_SIZE).await?;
        let files = purge(state, &mut write, now).await?;
        let keys = idempotency::trim(&mut write, now, TRANSACTION_BATCH_SIZE).await?;
        write.commit().await?;
        if events.max(tokens).max(files).max(keys) < u64::from(TRANSACTION_BATCH_SIZE) {
            return Ok(());
        }
    }
}

/// Deletes the rows of removed files. A server that is away may hold what was removed since: as long as one is, the rows stay.
async fn purge(state: &State, write: &mut Write, now: Timestamp) -> anyhow::Result<u64> {
    let seen = state.registry().all_have_seen(state.db.epoch());
    let before = now.checked_sub(state.config.access.upload_lifetime)?;
    match seen {
        Some(seen) => Ok(catalogue::store::purge(write, seen, before, TRANSACTION_BATCH_SIZE).await?),
        None => Ok(0),
    }
}

/// Removes uploads whose token has expired: no publisher can finish them, and the servers free what they reserved.
async fn remove_abandoned_uploads(state: &State, now: Timestamp) -> anyhow::Result<()> {
    let before = now.checked_sub(state.config.access.upload_lifetime)?;
    for file in state.db.abandoned_uploads(before, MAX_UPLOADS_PER_ROUND).await? {
        let mut write = state.db.write().await?;
        // It may have been committed since it was selected.
        let removed = removal::remove_upload(&mut write, file, before, now).await?;
        write.commit().await?;
        if let Some(seq) = removed {
            state.log.announce(seq);
            tracing::info!(%file, "File {file} removed: its upload was never finished");
        }
    }
    Ok(())
}

async fn trim_audit(state: &State, now: Timestamp) -> anyhow::Result<()> {
    let (db, limits) = (&state.db, &state.config.audit);
    let before = now.checked_sub(limits.audit_age)?;
    loop {
        let mut write = db.write().await?;
        let trimmed = audit::trim_older(&mut write, before, TRANSACTION_BATCH_SIZE).await?;
        write.commit().await?;
        if trimmed < u64::from(TRANSACTION_BATCH_SIZE) {
            break;
        }
    }
    for kind in AuditKind::ALL {
        while let Some(last) = db.audit_surplus(kind, limits.audit_rows).await? {
            let mut write = db.write().await?;
            audit::trim_kind(&mut write, kind, last, TRANSACTION_BATCH_SIZE).await?;
            write.commit().await?;
        }
    }
    Ok(())
}
