//! Facts on their way into the database, by the broker or by the log, one batch at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{EventLog as _, Handler, LogBatch, Position, Verdict};
use bytes::Bytes;
use jiff::SignedDuration;
use lifecycle::Shutdown;
use tokio::sync::{Mutex, Notify};
use wire::{
    Digest,
    event::{Event, Fact, Stream},
    server::HeartbeatAnswer,
};

use crate::{
    apply::leading,
    server::Server,
    store::{Batch, Cursors, Effects, StoreError},
};

/// How long to wait after the log could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// How old a hint of work may be.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

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
    /// Whether what a queue brought could not be taken in.
    failing: AtomicBool,
}

impl Follower {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        let own = Stream::of_server(&server.identity.id, &server.zone);
        Self { server, own, turn: Mutex::default(), behind: Notify::new(), failing: AtomicBool::new(false) }
    }

    /// A heartbeat was answered: the log is to be read when it does not reach what had been seen `before` it was sent: then
    /// the info-server's database was put back, and must be told. Whether it names what was not seen here: that may be on
    /// its way, see [`Self::look_again`].
    pub(crate) async fn compare(&self, before: &Cursors, answer: &HeartbeatAnswer) -> Result<bool, StoreError> {
        let cursors = self.server.store.cursors().await?;
        let HeartbeatAnswer { epoch, streams: newest, as_of, .. } = answer;
        let put_back = before.epoch == Some(*epoch) && as_of.is_some_and(|as_of| as_of < before.highest());
        if put_back || cursors.epoch != Some(*epoch) {
            self.behind.notify_one();
            return Ok(false);
        }
        // Also while another stream is busy: the log is read from the lowest cursor.
        if let Some(as_of) = as_of
            && self.own.iter().any(|stream| cursors.of(stream) < *as_of)
        {
            self.server.store.raise_cursors(*epoch, newest, *as_of).await?;
        }
        Ok(self.lags(&cursors, newest))
    }

    /// A moment after an answer that named what was not seen here: what is missing still is not on its way.
    pub(crate) async fn look_again(&self, answer: &HeartbeatAnswer) -> Result<(), StoreError> {
        let cursors = self.server.store.cursors().await?;
        if cursors.epoch == Some(answer.epoch) && self.lags(&cursors, &answer.streams) {
            self.behind.notify_one();
        }
        Ok(())
    }

    fn lags(&self, cursors: &Cursors, newest: &BTreeMap<Stream, u64>) -> bool {
        self.own.iter().any(|stream| newest.get(stream).is_some_and(|seq| *seq > cursors.of(stream)))
    }

    /// Something was not brought: the log is to be read.
    pub(crate) fn fall_behind(&self) {
        self.behind.notify_one();
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
            } else if failed && outcome.is_ok() {
                tracing::info!("the log of facts is read again");
            }
            failed = outcome.is_err();
        }
    }

    /// Reads the log to its end.
    async fn read_log(&self) -> Result<(), FollowError> {
        self.server.metrics.catchups.inc();
        loop {
            let position = self.cursors().await?.0;
            let batch = self.server.info.after(position, Duration::ZERO).await?;
            let reached = (Some(batch.header.epoch), batch.header.as_of);
            let ended =
                (batch.lines.is_empty() || reached == (position.epoch, position.seq)) && !self.server.info.has_more();
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
                    // What is for others changes nothing here, whoever brings it.
                    if self.own.contains(&event.stream) {
                        events.push(event);
                    }
                    verdicts.push(Verdict::Ack);
                }
                Err(error) => {
                    tracing::error!(%error, "a line of the log cannot be read");
                    self.server.metrics.unreadable.inc();
                    verdicts.push(Verdict::Park);
                }
            }
        }
        let cursors = self.own.iter().map(|own| (own.clone(), header.as_of)).collect();
        self.remember(&Batch { epoch: header.epoch, events: &events, cursors, replaces: header.snapshot }).await?;
        Ok(verdicts)
    }

    /// Takes in what a queue brought; answers what became of each message.
    async fn take_queued(&self, bodies: &[Bytes]) -> Vec<Verdict> {
        let events: Vec<_> = bodies.iter().map(|body| Event::parse(body)).collect();
        let readable: Vec<Event> = events.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
        let (mut taken, outcome) = self.take(&readable).await;
        // Once per outage: what is not taken in comes again and again.
        let failed = outcome.is_err();
        if let Err(error) = outcome
            && !self.failing.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "facts could not be taken in; they come again");
        } else if !failed && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("facts are taken in again");
        }
        let verdict = |event| match event {
            Ok(_) if taken > 0 => {
                taken -= 1;
                Verdict::Ack
            }
            Ok(_) => Verdict::Retry,
            // The bus tells of what is set aside.
            Err(_) => {
                self.server.metrics.unreadable.inc();
                Verdict::Park
            }
        };
        events.into_iter().map(verdict).collect()
    }

    /// Takes in events in their order; how many of them are settled, and what went wrong with the next one.
    async fn take(&self, events: &[Event]) -> (usize, Result<(), FollowError>) {
        let mut settled = 0;
        while let Some(rest) = events.get(settled..).filter(|rest| !rest.is_empty()) {
            match self.take_leading(rest).await {
                Ok(more) => settled += more,
                Err(error) => return (settled, Err(error)),
            }
        }
        (settled, Ok(()))
    }

    async fn take_leading(&self, events: &[Event]) -> Result<usize, FollowError> {
        let known = self.server.store.cursors().await?;
        let (next, settled) = leading(events, &known, &self.own);
        if let Some(Event { epoch, .. }) = next.first() {
            let cursors = next.iter().map(|event| (event.stream.clone(), event.seq)).collect();
            self.remember(&Batch { epoch: *epoch, events: &next, cursors, replaces: false }).await?;
        }
        match events.get(settled) {
            Some(event) if settled == 0 => {
                let (stream, cursor) = (&event.stream, known.of(&event.stream));
                tracing::debug!(%stream, prev = event.prev, cursor, "something before this fact is missing");
                self.read_log().await?;
                // The log had it, or it is of another life of the catalogue.
                Ok(1)
            }
            _ => Ok(settled),
        }
    }

    /// Remembers facts, then does what follows from them.
    async fn remember(&self, batch: &Batch<'_>) -> Result<(), FollowError> {
        // First, and whether or not it can be stored: to refuse is right in any case.
        let said = batch.events.iter().filter_map(|event| match &event.fact {
            Fact::TokenRevoked { tokens } => Some(tokens.iter().map(|token| token.token_hash)),
            _ => None,
        });
        self.refuse(&said.flatten().collect::<Vec<_>>()).await;
        let Effects { granted, dropped, new_epoch } = self.server.store.apply(batch).await?;
        self.server.metrics.events.inc_by(u64::try_from(batch.events.len()).unwrap_or(u64::MAX));
        if let Some(event) = batch.events.last().filter(|_| !batch.replaces) {
            let age = self.server.clock.now().duration_since(event.at).as_secs().max(0);
            self.server.metrics.event_age.set(age);
        }
        if new_epoch {
            tracing::info!(epoch = %batch.epoch, "another epoch of the catalogue: grants and cursors are void");
            self.server.tokens.forget_all();
            self.server.blobs.changed.notify_one();
        }
        if new_epoch || batch.replaces {
            self.server.asking.notify_one();
        }
        self.server.tokens.forget(&granted).await;
        for event in batch.events {
            // A hint is acted upon while it is fresh: it comes again while there is work.
            if let Fact::SpansWaiting { job } = event.fact
                && self.server.clock.now().duration_since(event.at) < FRESH
            {
                self.server.hints.tell(job);
            }
        }
        // What is missing here may be another now: assigned, removed, or the whole present state.
        let moves = |event: &Event| {
            matches!(event.fact, Fact::ReplicaAssigned { .. } | Fact::ReplicaRemoved { .. } | Fact::FileDeleted { .. })
        };
        if batch.replaces || batch.events.iter().any(moves) {
            self.server.blobs.wanting.notify_one();
            self.server.blobs.reconciled();
        }
        if !dropped.is_empty() {
            self.server.blobs.remove(dropped).await;
        }
        Ok(())
    }

    /// These tokens open nothing any more, nor do bodies go on that they opened.
    async fn refuse(&self, revoked: &[Digest]) {
        self.server.tokens.revoke(revoked).await;
        let cut: usize = revoked.iter().map(|token| self.server.running.cut(token)).sum();
        if cut > 0 {
            self.server.metrics.bodies_cut.inc_by(u64::try_from(cut).unwrap_or(u64::MAX));
            tracing::info!(cut, "a revocation cut running bodies");
        }
    }

    async fn cursors(&self) -> Result<(Position, Cursors), StoreError> {
        let cursors = self.server.store.cursors().await?;
        let seq = self.own.iter().map(|stream| cursors.of(stream)).min().unwrap_or(0);
        Ok((Position { epoch: cursors.epoch, seq, seen: cursors.highest() }, cursors))
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
