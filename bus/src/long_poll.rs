//! The backend without a broker: a file server reads the info-server's log by long poll.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::{
    Batch, BusError, BusState, EventBus, EventLog, Handler, LogBatch, Outbound, Phase, Receipt, Subscription, Verdict,
    backoff::Backoff, state::State,
};

/// Time that one poll waits for events.
const POLL_WAIT: Duration = Duration::from_secs(25);
/// Time that an answer may take beyond [`POLL_WAIT`].
const ANSWER_GRACE: Duration = Duration::from_secs(15);
/// Time from which on an answer counts as one that waited for events.
const MIN_WAITED: Duration = Duration::from_secs(1);

/// Bus without a broker.
#[derive(Debug)]
pub struct LongPoll {
    published: watch::Sender<u64>,
    log: Option<Arc<dyn EventLog>>,
    publishing: State,
    subscribed: State,
}

impl LongPoll {
    /// Creates the info-server's side. It sends nothing; [`Self::published`] wakes the polls that wait.
    pub fn publisher() -> Self {
        Self::new(None)
    }

    /// Creates a file server's side, which reads `log`.
    pub fn follower(log: Arc<dyn EventLog>) -> Self {
        Self::new(Some(log))
    }

    fn new(log: Option<Arc<dyn EventLog>>) -> Self {
        let (publishing, subscribed) = (State::new(Phase::Connected), State::new(Phase::Idle));
        Self { published: watch::Sender::new(0), log, publishing, subscribed }
    }

    /// Returns a channel that changes whenever there are new events in the log. Its value counts messages and has no
    /// other meaning.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }
}

#[async_trait]
impl EventBus for LongPoll {
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
        let mut backoff = Backoff::new();
        self.subscribed.enter(Phase::Connecting);
        while !shutdown.is_cancelled() {
            let (position, started) = (handler.position().await, Instant::now());
            // The first answer shows that the log can be read, so it must not wait for events.
            let connected = self.subscribed.subscribe().borrow().phase == Phase::Connected;
            let wait = if connected { POLL_WAIT } else { Duration::ZERO };
            let answer = time::timeout(wait + ANSWER_GRACE, log.after(position, wait));
            let Some(answer) = shutdown.run_until_cancelled(answer).await else {
                break;
            };
            let waited = started.elapsed() >= MIN_WAITED;
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
            // A poll that moved the position or waited is followed by the next at once; any other must not become a busy loop.
            let moved = handler.position().await != position;
            if answered && (moved || waited || !connected) {
                backoff = Backoff::new();
            } else {
                backoff.pause(shutdown).await;
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

/// Applies a batch. One without lines is passed on too, because its header says how far the log reaches.
async fn apply(handler: &dyn Handler, batch: LogBatch) {
    let lines = batch.lines.len();
    let verdicts = handler.apply(Batch::Logged(batch)).await;
    let unreadable = verdicts.iter().filter(|verdict| **verdict == Verdict::DeadLetter).count();
    if unreadable > 0 {
        tracing::warn!(unreadable, lines, "Event bus: skipped unreadable lines of the event log");
    }
}
