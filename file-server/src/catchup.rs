//! Facts on their way into the database, by the broker or by the log, one batch at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lifecycle::Shutdown;
use tokio::sync::{Mutex, Notify};
use wire::{
    event::{Event, Stream},
    id::Epoch,
};

use crate::{
    apply::{Place, place},
    blobs::{BlobError, Blobs},
    info::{InfoError, InfoServer},
    metrics::Metrics,
    running::Running,
    store::{Batch, Cursors, Effects, Store, StoreError},
    tokens::Tokens,
};

/// Facts remembered in one transaction.
const BATCH: usize = 256;
/// How long the log is asked to wait for something new, where no broker brings it.
const LONG_POLL: Duration = Duration::from_secs(20);
/// How long to wait after the log could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Why facts could not be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

/// Takes facts in.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) own: [Stream; 3],
    pub(crate) store: Store,
    pub(crate) info: InfoServer,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) running: Arc<Running>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) metrics: Arc<Metrics>,
    /// Facts are taken in one after the other, whoever brings them.
    pub(crate) turn: Mutex<()>,
    /// The log should be read now.
    pub(crate) behind: Notify,
}

impl Follower {
    /// Takes in one event that was brought; reads the log when something before it is missing.
    pub(crate) async fn take(&self, event: Event) -> Result<(), FollowError> {
        let _turn = self.turn.lock().await;
        let cursors = self.store.cursors().await?;
        match place(&event, &cursors, &self.own) {
            Place::Seen | Place::Foreign => Ok(()),
            Place::Gap => {
                tracing::info!(stream = %event.stream, prev = event.prev, cursor = cursors.of(&event.stream),
                    "an event before this one is missing: reading the log");
                self.read_log(cursors, Duration::ZERO).await
            }
            Place::Next => {
                let cursor = vec![(event.stream.clone(), event.seq)];
                let events = [event];
                let epoch = events.first().map_or_else(Epoch::new, |event| event.epoch);
                self.apply(&Batch { epoch, events: &events, cursors: cursor, replaces: false }).await
            }
        }
    }

    /// A heartbeat was answered: the log is to be read when it names what was not seen here.
    pub(crate) async fn compare(&self, epoch: Epoch, newest: &BTreeMap<Stream, u64>) -> Result<(), StoreError> {
        let cursors = self.store.cursors().await?;
        let behind = self.own.iter().any(|stream| newest.get(stream).is_some_and(|seq| *seq > cursors.of(stream)));
        if behind || cursors.epoch != Some(epoch) {
            self.behind.notify_one();
        }
        Ok(())
    }

    /// Reads the log until `shutdown`: all the time where no broker brings the facts, else whenever something is missing.
    pub(crate) async fn keep_reading(self: Arc<Self>, broker: bool, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut failed = false;
        loop {
            let wait = if broker { Duration::ZERO } else { LONG_POLL };
            let read = async {
                if broker && !failed {
                    self.behind.notified().await;
                }
                self.catch_up(wait).await
            };
            let outcome = tokio::select! {
                outcome = read => outcome,
                () = finishing.cancelled() => break,
            };
            if let Err(error) = &outcome {
                // Once per outage: the info-server may be away for a week.
                if !failed {
                    tracing::warn!(%error, "the log of facts cannot be read; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = finishing.cancelled() => break,
                }
            }
            failed = outcome.is_err();
        }
        Ok(())
    }

    async fn catch_up(&self, wait: Duration) -> Result<(), FollowError> {
        if wait.is_zero() {
            let _turn = self.turn.lock().await;
            return self.read_log(self.store.cursors().await?, wait).await;
        }
        // Without a broker nobody else brings facts, so nobody is kept waiting by a long poll.
        self.read_log(self.store.cursors().await?, wait).await
    }

    async fn read_log(&self, cursors: Cursors, wait: Duration) -> Result<(), FollowError> {
        self.metrics.catchups.one();
        let after = self.own.iter().map(|stream| cursors.of(stream)).min().unwrap_or(0);
        let mut log = self.info.log(cursors.epoch, after, wait).await?;
        let header = log.header.clone();
        if header.snapshot {
            tracing::info!(as_of = header.as_of, "the log was trimmed: taking the present state instead");
        }
        let mut replaces = header.snapshot;
        loop {
            let events = log.events(BATCH).await?;
            let last = events.len() < BATCH;
            // The lines of a log ascend over all streams, so that the newest one read is a cursor for each of them. A
            // snapshot is nothing until all of it is there.
            let reached = match events.last() {
                _ if last => Some(header.as_of),
                Some(event) if !header.snapshot => Some(event.seq),
                _ => None,
            };
            let cursors = reached.map_or_else(Vec::new, |seq| self.own.iter().map(|own| (own.clone(), seq)).collect());
            self.apply(&Batch { epoch: header.epoch, events: &events, cursors, replaces }).await?;
            replaces = false;
            if last {
                return Ok(());
            }
        }
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), FollowError> {
        let Effects { granted, revoked, dropped, new_epoch } = self.store.apply(batch).await?;
        self.metrics.events.add(u64::try_from(batch.events.len()).unwrap_or(u64::MAX));
        if new_epoch {
            tracing::warn!(epoch = %batch.epoch, "the catalogue began a new epoch: cursors and grants are void");
            self.tokens.forget_all();
            self.blobs.changed.notify_one();
        }
        self.tokens.forget(&granted).await;
        self.tokens.revoke(&revoked).await;
        for token in &revoked {
            let cut = self.running.cut(token);
            if cut > 0 {
                tracing::info!(cut, "a revocation cut running bodies");
            }
        }
        if !dropped.is_empty() {
            self.blobs.remove(dropped).await?;
        }
        Ok(())
    }
}
