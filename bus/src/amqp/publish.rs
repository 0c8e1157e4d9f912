//! The publishing side: confirmed batches over a supervised connection.

mod session;

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use lapin::Event;
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use wire::ServerId;

use self::session::{Session, blocked};
use super::{
    broker::Broker,
    connection::BrokerConnection,
    topology::{self, Side},
    unconfirmed_keys::UnconfirmedKeys,
};
use crate::{
    BusError, BusState, MAX_BATCH, Outbound, Phase, Receipt,
    backoff::Backoff,
    state::{STABLE_TIME, State},
};

/// Time that a batch waits for a connection.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two checks of a connection that reports no event.
const CONNECTION_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two declarations of the queue of dead-lettered messages, which an operator may have deleted.
const DEAD_LETTERS_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Time for a batch to learn why its channel was closed.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest number of attempts to publish a batch. Each finds one unconfirmed key at most; what is left counts as unconfirmed.
const MAX_PUBLISH_ROUNDS: usize = 8;

/// Publishing side of the bus.
#[derive(Debug)]
pub(super) struct Publisher {
    session: watch::Sender<Option<Arc<Session>>>,
    /// Locked while a batch is published: returned messages can be told apart within one batch only. Unconfirmed keys outlive the
    /// connection, so that the wait for them does not begin again with each one.
    unconfirmed: Mutex<UnconfirmedKeys>,
    state: State,
    /// True after a session that connected and then refused to work: the next one counts as connected once it has confirmed
    /// something.
    distrusted: AtomicBool,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            session: watch::Sender::new(None),
            unconfirmed: Mutex::default(),
            state: State::new(Phase::Idle),
            distrusted: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    /// Keeps a session up until shutdown.
    pub(super) async fn run(&self, broker: &Broker, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new();
        self.state.enter(Phase::Connecting);
        while let Some(opened) = shutdown.run_until_cancelled(Session::open(broker, &self.state)).await {
            match opened {
                Ok(session) => {
                    let (session, opened) = (Arc::new(session), Instant::now());
                    self.supervise(Arc::clone(&session), shutdown).await;
                    // A bare connection proves nothing.
                    if session.proven.load(Ordering::Relaxed) || opened.elapsed() >= STABLE_TIME {
                        backoff = Backoff::new();
                    }
                }
                Err(error) => self.state.fail("publisher", &error),
            }
            backoff.pause(shutdown).await;
        }
        self.state.enter(Phase::Idle);
    }

    /// Offers the session to publishers until it breaks.
    async fn supervise(&self, session: Arc<Session>, shutdown: &CancellationToken) {
        let mut events = std::pin::pin!(session.connection.events());
        self.session.send_replace(Some(Arc::clone(&session)));
        let (opened, mut alarm, mut ended) = (Instant::now(), None, None);
        let mut dead_letters_checked = Instant::now();
        while session.healthy() && !shutdown.is_cancelled() {
            let is_trusted = !self.distrusted.load(Ordering::Relaxed)
                || session.proven.load(Ordering::Relaxed)
                || opened.elapsed() >= STABLE_TIME;
            if session.connection.blocked() {
                self.state.block("publisher", &blocked(alarm.as_deref()));
            } else if session.stuck.load(Ordering::Relaxed) {
                // The alarm is over. Confirms of what was sent before must not be taken for those of other messages.
                break;
            } else if is_trusted {
                self.distrusted.store(false, Ordering::Relaxed);
                if self.state.enter(Phase::Connected) {
                    let host = session.connection.host();
                    tracing::info!(host, "Event bus: publisher connected to the broker at {host}");
                }
                if dead_letters_checked.elapsed() >= DEAD_LETTERS_CHECK_INTERVAL {
                    // A failure of the connection shows by itself.
                    if let Ok(fault) = topology::declare_dead_letters(&session.connection, Side::Publisher).await {
                        self.state.dead_letters(fault.as_ref());
                    }
                    dead_letters_checked = Instant::now();
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = session.broken.cancelled() => {}
                Some(event) = events.next() => match event {
                    Event::ConnectionBlocked(reason) => alarm = Some(reason),
                    Event::Error(error) => ended = Some(BusError::from(error)),
                    _ => {}
                },
                () = time::sleep(CONNECTION_POLL_INTERVAL) => {}
            }
        }
        self.session.send_replace(None);
        if shutdown.is_cancelled() {
            session.connection.close().await;
        } else if session.healthy() {
            tracing::debug!("Event bus: the publisher connects anew after an alarm");
        } else {
            // The broker closes the channel of a batch that it refuses; the batch itself learns why.
            let _ = time::timeout(FAILURE_TIMEOUT, session.broken.cancelled()).await;
            let failure = session.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.distrusted.store(failure.is_some() && !session.proven.load(Ordering::Relaxed), Ordering::Relaxed);
            let source = Box::new(failure.or(ended).unwrap_or(BusError::Unavailable));
            self.state.fail("publisher", &BusError::Node { host: session.connection.host().to_owned(), source });
        }
    }

    pub(super) async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError> {
        let mut unconfirmed = self.unconfirmed.lock().await;
        let mut receipts = Vec::with_capacity(batch.len());
        for chunk in batch.chunks(MAX_BATCH) {
            receipts.extend(self.publish_chunk(chunk, &mut unconfirmed).await?);
        }
        Ok(receipts)
    }

    /// Publishes at most [`MAX_BATCH`] messages. Every round settles all of them or finds one more key to hold back.
    async fn publish_chunk(
        &self,
        chunk: &[Outbound],
        unconfirmed: &mut UnconfirmedKeys,
    ) -> Result<Vec<Receipt>, BusError> {
        let mut receipts = vec![None; chunk.len()];
        for _ in 0..MAX_PUBLISH_ROUNDS {
            let now = Instant::now();
            let mut open = Vec::new();
            for (message, receipt) in chunk.iter().zip(&mut receipts).filter(|(_, receipt)| receipt.is_none()) {
                if unconfirmed.holds_back(&message.routing_key, now) {
                    *receipt = Some(Receipt::Unconfirmed);
                } else {
                    open.push((message, receipt));
                }
            }
            if open.is_empty() {
                break;
            }
            let session = self.session().await?;
            if session.connection.blocked() || session.stuck.load(Ordering::Relaxed) {
                return Err(blocked(None));
            }
            let messages: Vec<_> = open.iter().map(|(message, _)| *message).collect();
            match session.send(&messages, unconfirmed).await {
                Ok(sent) => {
                    if sent.contains(&None) {
                        // Late confirms must not be taken for those of other messages, and the channel may wait for ever.
                        session.broken.cancel();
                    }
                    session.proven.fetch_or(sent.contains(&Some(Receipt::Confirmed)), Ordering::Relaxed);
                    open.into_iter().zip(sent).for_each(|((_, receipt), sent)| *receipt = sent);
                }
                Err(error @ BusError::Blocked { .. }) => {
                    session.stuck.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                Err(error) => {
                    let told = BusError::Broker { code: error.code(), text: error.to_string() };
                    *session.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
                    session.broken.cancel();
                    return Err(error);
                }
            }
        }
        Ok(receipts.into_iter().map(|receipt| receipt.unwrap_or(Receipt::Unconfirmed)).collect())
    }

    /// Deletes those of the servers' queues that have no consumer, and returns their number. One of them may be the queue that does
    /// not confirm; its events are in the log. A live server redeclares its own queue.
    pub(super) async fn delete_stalled_queues(&self, broker: &Broker, servers: &[ServerId]) -> Result<usize, BusError> {
        let connection = BrokerConnection::open(broker, "ddm publisher, queues").await?;
        let mut deleted = 0;
        for server in servers {
            let name = topology::server_queue(server);
            if topology::is_unread(&connection, &name).await? {
                topology::delete(&connection, &name).await?;
                tracing::warn!(
                    queue = name,
                    "Event bus: deleted queue {name}, which had no consumer; its server declares it again"
                );
                deleted += 1;
            }
        }
        connection.close().await;
        self.unconfirmed.lock().await.retry_all(Instant::now());
        Ok(deleted)
    }

    async fn session(&self) -> Result<Arc<Session>, BusError> {
        let mut sessions = self.session.subscribe();
        let healthy = sessions.wait_for(|session| session.as_ref().is_some_and(|session| session.healthy()));
        match time::timeout(RECONNECT_TIMEOUT, healthy).await {
            Ok(Ok(session)) => session.clone().ok_or(BusError::Unavailable),
            _ => Err(BusError::Unavailable),
        }
    }
}
