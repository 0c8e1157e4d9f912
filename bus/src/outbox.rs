//! The embedded default: the info-server's log itself is the transport, and a file server follows it by long poll.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::{
    Batch, BusError, BusState, EventBus, EventLog, Handler, LogBatch, Outbound, Phase, Receipt, Subscription, Verdict,
    pause::Pauses, state::State,
};

/// How long a poll may wait for news.
const WAIT: Duration = Duration::from_secs(25);
/// How much longer than that an answer may take to arrive.
const SLACK: Duration = Duration::from_secs(15);
/// An answer that took this long has waited for news.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bus without a broker.
#[derive(Debug)]
pub struct Outbox {
    published: watch::Sender<u64>,
    log: Option<Arc<dyn EventLog>>,
    publishing: State,
    subscribed: State,
}

impl Outbox {
    /// For the info-server: nothing is sent, [`Self::published`] wakes those who wait for the log.
    pub fn publisher() -> Self {
        Self::new(None)
    }

    /// For a file server that follows `log`.
    pub fn follower(log: Arc<dyn EventLog>) -> Self {
        Self::new(Some(log))
    }

    fn new(log: Option<Arc<dyn EventLog>>) -> Self {
        let (publishing, subscribed) = (State::new(Phase::Connected), State::new(Phase::Idle));
        Self { published: watch::Sender::new(0), log, publishing, subscribed }
    }

    /// Changes whenever there is something new in the log. The value counts messages and means nothing else.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }
}

#[async_trait]
impl EventBus for Outbox {
    async fn run(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }

    async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError> {
        self.published.send_modify(|count| *count = count.saturating_add(batch.len() as u64));
        Ok(vec![Receipt::Confirmed; batch.len()])
    }

    async fn subscribe(
        &self,
        _: &Subscription,
        handler: &dyn Handler,
        shutdown: &CancellationToken,
    ) -> Result<(), BusError> {
        let log = self.log.as_ref().ok_or(BusError::NoLog)?;
        let mut pauses = Pauses::new();
        self.subscribed.enter(Phase::Connecting);
        while !shutdown.is_cancelled() {
            let (position, asked) = (handler.position().await, Instant::now());
            // The first answer tells that the log is there: it must not wait for news.
            let connected = self.subscribed.subscribe().borrow().phase == Phase::Connected;
            let wait = if connected { WAIT } else { Duration::ZERO };
            let answer = time::timeout(wait + SLACK, log.after(position, wait));
            let Some(answer) = shutdown.run_until_cancelled(answer).await else {
                break;
            };
            let waited = asked.elapsed() >= PATIENCE;
            let answered = match answer.unwrap_or(Err(BusError::Deadline("long poll"))) {
                Ok(batch) => {
                    self.subscribed.enter(Phase::Connected);
                    apply(handler, batch).await;
                    true
                }
                Err(error) => {
                    self.subscribed.fail("subscriber", &error);
                    false
                }
            };
            // What moved the position or waited for news was worth its poll; anything else must not become a busy loop.
            let moved = handler.position().await != position;
            if answered && (moved || waited || !connected) {
                pauses = Pauses::new();
            } else {
                pauses.pause(shutdown).await;
            }
        }
        self.subscribed.enter(Phase::Idle);
        Ok(())
    }

    fn publishing(&self) -> watch::Receiver<BusState> {
        self.publishing.subscribe()
    }

    fn subscribed(&self) -> watch::Receiver<BusState> {
        self.subscribed.subscribe()
    }
}

/// A batch without lines still carries how far the log reaches, so the handler sees it too.
async fn apply(handler: &dyn Handler, batch: LogBatch) {
    let lines = batch.lines.len();
    let verdicts = handler.apply(Batch::Logged(batch)).await;
    let parked = verdicts.iter().filter(|verdict| **verdict == Verdict::Park).count();
    if parked > 0 {
        tracing::warn!(parked, lines, "event bus: lines of the log were unreadable and passed over");
    }
}
