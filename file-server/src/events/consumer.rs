//! The consumer of events, whether the broker or the log brings them, one batch at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{Handler, LogBatch, Position, Verdict};
use bytes::Bytes;
use lifecycle::{Shutdown, fault_log::FaultLog};
use tokio::sync::{Mutex, Notify};
use wire::{
    event::{Event, Stream},
    server::HeartbeatAnswer,
};

use super::log;
use crate::{
    db::{
        DatabaseError,
        event_batches::{Cursors, EventBatch},
    },
    events::ordering::{BehindGap, Leading, behind_gap, leading},
    state::AppState,
};

mod effects;

static CURSOR_FAULTS: FaultLog = FaultLog::new("Stream cursors cannot be read");
static LOG_FAULTS: FaultLog = FaultLog::new("A piece of the event log could not be applied; it is read again");

/// Pause after the log could not be read.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Reason why events could not be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumerError {
    #[error(transparent)]
    Log(#[from] bus::BusError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Applies events.
#[derive(Debug)]
pub(crate) struct EventConsumer {
    state: Arc<AppState>,
    own: [Stream; 3],
    /// Held while a batch is applied, whether it came from the broker or the log.
    applying: Mutex<()>,
    /// Notified when the log is to be read now.
    behind: Notify,
    /// True while messages of the queue could not be applied.
    failing: AtomicBool,
}

impl EventConsumer {
    pub(crate) fn new(state: Arc<AppState>) -> Self {
        let own = Stream::of_server(&state.identity.id, &state.zone);
        Self { state, own, applying: Mutex::default(), behind: Notify::new(), failing: AtomicBool::new(false) }
    }

    /// Compares a heartbeat's answer with the cursors. The log is to be read when it does not reach the cursors from `before`
    /// the heartbeat was sent: then the info-server's database was restored, and must learn what was read here. Returns true if
    /// the answer names events that were not read: they may be on their way, see [`Self::recheck`].
    pub(crate) async fn compare(&self, before: &Cursors, answer: &HeartbeatAnswer) -> Result<bool, DatabaseError> {
        let cursors = self.state.db.cursors().await?;
        let HeartbeatAnswer { epoch, streams: newest, as_of, .. } = answer;
        let restored = before.epoch == Some(*epoch) && as_of.is_some_and(|as_of| as_of < before.highest());
        if restored || cursors.epoch != Some(*epoch) {
            self.behind.notify_one();
            return Ok(false);
        }
        // Also while another stream is busy: the log is read from the lowest cursor.
        if let Some(as_of) = as_of
            && self.own.iter().any(|stream| cursors.of(stream) < *as_of)
        {
            self.state.db.raise_cursors(*epoch, newest, *as_of).await?;
        }
        Ok(self.lags(&cursors, newest))
    }

    /// Has the log read if events that an earlier answer named are still missing: they are not on their way.
    pub(crate) async fn recheck(&self, answer: &HeartbeatAnswer) -> Result<(), DatabaseError> {
        let cursors = self.state.db.cursors().await?;
        if cursors.epoch == Some(answer.epoch) && self.lags(&cursors, &answer.streams) {
            self.behind.notify_one();
        }
        Ok(())
    }

    fn lags(&self, cursors: &Cursors, newest: &BTreeMap<Stream, u64>) -> bool {
        self.own.iter().any(|stream| newest.get(stream).is_some_and(|seq| *seq > cursors.of(stream)))
    }

    /// Has the log read: events did not arrive.
    pub(crate) fn catch_up(&self) {
        self.behind.notify_one();
    }

    /// Reads the log whenever events are missing, until `shutdown`. Only where a broker brings the events: without one the log
    /// is followed all the time anyway.
    pub(crate) async fn run_catch_up(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut failed = false;
        loop {
            tokio::select! {
                () = self.behind.notified() => {}
                () = tokio::time::sleep(RETRY_PAUSE), if failed => {}
                () = finishing.cancelled() => return Ok(()),
            }
            let read = async {
                let _applying = self.applying.lock().await;
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
                tracing::warn!(%error, "The event log cannot be read; trying again");
            } else if failed && outcome.is_ok() {
                tracing::info!("The event log can be read again");
            }
            failed = outcome.is_err();
        }
    }

    /// Reads the log to its end.
    async fn read_log(&self) -> Result<(), ConsumerError> {
        self.state.metrics.catchups.inc();
        loop {
            let position = self.log_position().await?;
            let batch = log::read(&self.state.info, position, Duration::ZERO).await?;
            let reached = (Some(batch.header.epoch), batch.header.as_of);
            let ended = (batch.lines.is_empty() || reached == (position.epoch, position.seq))
                && !self.state.info.has_more_log();
            self.apply_log(batch).await?;
            if ended {
                return Ok(());
            }
        }
    }

    /// Applies a piece of the log, and returns a verdict for each line. After a failure the log is read from the cursors again.
    async fn apply_log(&self, batch: LogBatch) -> Result<Vec<Verdict>, ConsumerError> {
        self.apply_log_lines(batch).await.inspect_err(|_| self.state.info.restart_log())
    }

    async fn apply_log_lines(&self, LogBatch { header, lines }: LogBatch) -> Result<Vec<Verdict>, ConsumerError> {
        if header.snapshot {
            tracing::info!(as_of = header.as_of, lines = lines.len(), "Received a snapshot instead of the event log");
        }
        let (mut events, mut verdicts) = (Vec::new(), Vec::new());
        for line in &lines {
            match Event::parse(line) {
                Ok(event) => {
                    // Events for other servers change nothing here.
                    if self.own.contains(&event.stream) {
                        events.push(event);
                    }
                    verdicts.push(Verdict::Ack);
                }
                Err(error) => {
                    tracing::error!(%error, "A line of the event log cannot be parsed");
                    self.state.metrics.unreadable.inc();
                    verdicts.push(Verdict::DeadLetter);
                }
            }
        }
        let cursors = self.own.iter().map(|own| (own.clone(), header.as_of)).collect();
        self.apply_batch(&EventBatch { epoch: header.epoch, events: &events, cursors, is_snapshot: header.snapshot })
            .await?;
        Ok(verdicts)
    }

    /// Applies messages of the queue, and returns a verdict for each.
    async fn apply_messages(&self, bodies: &[Bytes]) -> Vec<Verdict> {
        let events: Vec<_> = bodies.iter().map(|body| Event::parse(body)).collect();
        let readable: Vec<Event> = events.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
        let mut settled = vec![false; readable.len()];
        let failure = self.apply_in_order(&readable, &mut settled).await.err();
        // Once per outage: messages that are not applied come again and again.
        let failed = failure.is_some();
        if let Some(error) = failure
            && !self.failing.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "Events could not be applied; the broker sends them again");
        } else if !failed && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("Events are applied again");
        }
        let mut settled = settled.into_iter();
        let verdict = |event| match event {
            Ok(_) if settled.next() == Some(true) => Verdict::Ack,
            Ok(_) => Verdict::Retry,
            // The bus logs the messages that it parks.
            Err(_) => {
                self.state.metrics.unreadable.inc();
                Verdict::DeadLetter
            }
        };
        events.into_iter().map(verdict).collect()
    }

    /// Applies events in their order, and notes which of them are settled.
    async fn apply_in_order(&self, events: &[Event], settled: &mut [bool]) -> Result<(), ConsumerError> {
        // Whatever is missing before them, and whether or not the log can be read: to refuse is right in any case.
        self.refuse_revoked(events).await;
        let mut reached = 0;
        while let (Some(rest), Some(settled)) = (events.get(reached..), settled.get_mut(reached..))
            && !rest.is_empty()
        {
            reached += self.apply_leading(rest, settled).await?;
        }
        Ok(())
    }

    /// Applies the events up to a gap, or reads the log if the gap comes first. Returns how many of the first ones are settled.
    async fn apply_leading(&self, events: &[Event], marks: &mut [bool]) -> Result<usize, ConsumerError> {
        let known = self.state.db.cursors().await?;
        let Leading { next, settled } = leading(events, &known, &self.own);
        if let Some(Event { epoch, .. }) = next.first() {
            let cursors = next.iter().map(|event| (event.stream.clone(), event.seq)).collect();
            self.apply_batch(&EventBatch { epoch: *epoch, events: &next, cursors, is_snapshot: false }).await?;
        }
        marks.iter_mut().take(settled).for_each(|mark| *mark = true);
        let (Some(event), 0) = (events.first(), settled) else { return Ok(settled) };
        let (stream, cursor) = (&event.stream, known.of(&event.stream));
        tracing::debug!(%stream, prev = event.prev, cursor, "An earlier event of the stream is missing: reading the log");
        for index in self.apply_behind_gap(events, &known).await? {
            marks.iter_mut().skip(index).take(1).for_each(|mark| *mark = true);
        }
        self.read_log().await?;
        // The log had it, or it is of another epoch.
        marks.iter_mut().take(1).for_each(|mark| *mark = true);
        Ok(1)
    }

    /// Applies what need not wait for the log, which may be away for long. Returns the indices of the events that are settled.
    async fn apply_behind_gap(&self, events: &[Event], known: &Cursors) -> Result<Vec<usize>, ConsumerError> {
        let BehindGap { next, settled, early } = behind_gap(events, known, &self.own);
        let Some(epoch) = known.epoch else { return Ok(Vec::new()) };
        let cursors = next.iter().map(|event| (event.stream.clone(), event.seq)).collect();
        for (events, cursors) in [(next, cursors), (early, BTreeMap::new())] {
            if !events.is_empty() {
                self.apply_batch(&EventBatch { epoch, events: &events, cursors, is_snapshot: false }).await?;
            }
        }
        Ok(settled)
    }

    /// Returns the position from which the log is to be read.
    async fn log_position(&self) -> Result<Position, DatabaseError> {
        let cursors = self.state.db.cursors().await?;
        let seq = self.own.iter().map(|stream| cursors.of(stream)).min().unwrap_or(0);
        Ok(Position { epoch: cursors.epoch, seq, seen: cursors.highest() })
    }
}

#[async_trait]
impl Handler for EventConsumer {
    async fn position(&self) -> Position {
        self.log_position().await.unwrap_or_else(|error| {
            // From the beginning: events that were applied before change nothing.
            CURSOR_FAULTS.failed(error);
            Position::default()
        })
    }

    async fn apply(&self, batch: bus::Batch) -> Vec<Verdict> {
        let _applying = self.applying.lock().await;
        match batch {
            bus::Batch::Queued(bodies) => self.apply_messages(&bodies).await,
            bus::Batch::Logged(batch) => {
                let lines = batch.lines.len();
                self.apply_log(batch).await.unwrap_or_else(|error| {
                    LOG_FAULTS.failed(error);
                    vec![Verdict::Retry; lines]
                })
            }
        }
    }

    async fn resynchronise(&self) {
        self.behind.notify_one();
    }
}
