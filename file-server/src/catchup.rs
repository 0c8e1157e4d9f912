//! Facts on their way into the database, by the broker or by the log, one batch at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{EventLog as _, Handler, LogBatch, Position, Verdict};
use bytes::Bytes;
use lifecycle::Shutdown;
use tokio::sync::{Mutex, Notify};
use wire::{
    event::{Event, Stream},
    id::Epoch,
};

use crate::{
    apply::{Place, place},
    server::Server,
    store::{Batch, Cursors, Effects, StoreError},
};

/// How long to wait after the log could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Why facts could not be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Log(#[from] bus::BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes facts in.
#[derive(Debug)]
pub(crate) struct Follower {
    server: Arc<Server>,
    own: [Stream; 3],
    /// Facts are taken in one after the other, whoever brings them.
    turn: Mutex<()>,
    /// The log should be read now.
    behind: Notify,
}

impl Follower {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        let own = Stream::of_server(&server.identity.id, &server.zone);
        Self { server, own, turn: Mutex::default(), behind: Notify::new() }
    }

    /// A heartbeat was answered: the log is to be read when it names what was not seen here.
    pub(crate) async fn compare(&self, epoch: Epoch, newest: &BTreeMap<Stream, u64>) -> Result<(), StoreError> {
        let cursors = self.server.store.cursors().await?;
        let behind = self.own.iter().any(|stream| newest.get(stream).is_some_and(|seq| *seq > cursors.of(stream)));
        if behind || cursors.epoch != Some(epoch) {
            self.behind.notify_one();
        }
        Ok(())
    }

    /// Reads the log whenever something is missing, until `shutdown`. Only where a broker brings the facts: without one
    /// the log is followed all the time anyway.
    pub(crate) async fn keep_in_step(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut failed = false;
        loop {
            tokio::select! {
                () = self.behind.notified() => {}
                () = tokio::time::sleep(PAUSE), if failed => {}
                () = finishing.cancelled() => return Ok(()),
            }
            let read = async {
                let _turn = self.turn.lock().await;
                self.read_log().await
            };
            let outcome = tokio::select! {
                outcome = read => outcome,
                () = finishing.cancelled() => return Ok(()),
            };
            // Once per outage: the info-server may be away for a week.
            if let Err(error) = &outcome
                && !failed
            {
                tracing::warn!(%error, "the log of facts cannot be read; trying again");
            }
            failed = outcome.is_err();
        }
    }

    /// Reads the log to its end.
    async fn read_log(&self) -> Result<(), FollowError> {
        self.server.metrics.catchups.one();
        loop {
            let position = self.cursors().await?.0;
            let batch = self.server.info.after(position, Duration::ZERO).await?;
            let reached = Position { epoch: Some(batch.header.epoch), seq: batch.header.as_of };
            let ended = (batch.lines.is_empty() || reached == position) && !self.server.info.has_more();
            self.take_log(batch).await?;
            if ended {
                return Ok(());
            }
        }
    }

    /// Takes a piece of the log in; answers what became of each line. After a failure the log is read from the cursors again.
    async fn take_log(&self, batch: LogBatch) -> Result<Vec<Verdict>, FollowError> {
        self.remember_log(batch).await.inspect_err(|_| self.server.info.start_over())
    }

    async fn remember_log(&self, LogBatch { header, lines }: LogBatch) -> Result<Vec<Verdict>, FollowError> {
        if header.snapshot {
            tracing::info!(as_of = header.as_of, lines = lines.len(), "took the present state instead of the log");
        }
        let (mut events, mut verdicts) = (Vec::new(), Vec::new());
        for line in &lines {
            match Event::parse(line) {
                Ok(event) => {
                    events.push(event);
                    verdicts.push(Verdict::Ack);
                }
                Err(error) => {
                    tracing::error!(%error, "a line of the log cannot be read");
                    self.server.metrics.unreadable.one();
                    verdicts.push(Verdict::Park);
                }
            }
        }
        let cursors = self.own.iter().map(|own| (own.clone(), header.as_of)).collect();
        self.remember(&Batch { epoch: header.epoch, events: &events, cursors, replaces: header.snapshot }).await?;
        Ok(verdicts)
    }

    /// Takes in what a queue brought; answers what became of each message. What has no verdict comes again.
    async fn take_queued(&self, bodies: &[Bytes]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for body in bodies {
            let verdict = match Event::parse(body) {
                Ok(event) => match self.take(event).await {
                    Ok(()) => Verdict::Ack,
                    Err(error) => {
                        tracing::warn!(%error, "a fact could not be taken in; it comes again");
                        Verdict::Retry
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a message is not an event this version knows: setting it aside");
                    self.server.metrics.unreadable.one();
                    Verdict::Park
                }
            };
            verdicts.push(verdict);
        }
        verdicts
    }

    async fn take(&self, event: Event) -> Result<(), FollowError> {
        let cursors = self.server.store.cursors().await?;
        match place(&event, &cursors, &self.own) {
            Place::Seen | Place::Foreign => Ok(()),
            Place::Gap => {
                let (stream, cursor) = (&event.stream, cursors.of(&event.stream));
                tracing::info!(%stream, prev = event.prev, cursor, "something before this fact is missing");
                self.read_log().await
            }
            Place::Next => {
                let (epoch, cursors) = (event.epoch, vec![(event.stream.clone(), event.seq)]);
                self.remember(&Batch { epoch, events: &[event], cursors, replaces: false }).await
            }
        }
    }

    /// Remembers facts, then does what follows from them.
    async fn remember(&self, batch: &Batch<'_>) -> Result<(), FollowError> {
        let Effects { granted, revoked, dropped, new_epoch } = self.server.store.apply(batch).await?;
        self.server.metrics.events.add(u64::try_from(batch.events.len()).unwrap_or(u64::MAX));
        if new_epoch {
            tracing::info!(epoch = %batch.epoch, "another epoch of the catalogue: grants and cursors are void");
            self.server.tokens.forget_all();
            self.server.blobs.changed.notify_one();
        }
        self.server.tokens.forget(&granted).await;
        self.server.tokens.revoke(&revoked).await;
        let cut: usize = revoked.iter().map(|token| self.server.running.cut(token)).sum();
        if cut > 0 {
            self.server.metrics.bodies_cut.add(u64::try_from(cut).unwrap_or(u64::MAX));
            tracing::info!(cut, "a revocation cut running bodies");
        }
        if !dropped.is_empty() {
            self.server.blobs.remove(dropped).await;
        }
        Ok(())
    }

    async fn cursors(&self) -> Result<(Position, Cursors), StoreError> {
        let cursors = self.server.store.cursors().await?;
        let seq = self.own.iter().map(|stream| cursors.of(stream)).min().unwrap_or(0);
        Ok((Position { epoch: cursors.epoch, seq }, cursors))
    }
}

#[async_trait]
impl Handler for Follower {
    async fn position(&self) -> Position {
        match self.cursors().await {
            Ok((position, _)) => position,
            Err(error) => {
                // From the beginning: what was seen before changes nothing.
                tracing::error!(%error, "the cursors cannot be read");
                Position::default()
            }
        }
    }

    async fn apply(&self, batch: bus::Batch) -> Vec<Verdict> {
        let _turn = self.turn.lock().await;
        match batch {
            bus::Batch::Queued(bodies) => self.take_queued(&bodies).await,
            bus::Batch::Logged(batch) => {
                let lines = batch.lines.len();
                self.take_log(batch).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "a piece of the log could not be taken in; it comes again");
                    vec![Verdict::Retry; lines]
                })
            }
        }
    }

    async fn resynchronise(&self) {
        self.behind.notify_one();
    }
}
