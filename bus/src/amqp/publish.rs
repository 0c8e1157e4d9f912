//! The publishing side: confirmed batches over a supervised connection.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, future, poll};
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use wire::ServerId;

use super::{
    address::Address,
    held_up::HeldUp,
    link::{Link, reply},
    topology,
};
use crate::{BusError, BusState, MAX_BATCH, MAX_BODY, Outbound, Phase, Receipt, pause::Pauses, state::State};

/// Until a whole batch is on its way. A broker that raises an alarm midway reads nothing more.
const TAKEN: Duration = Duration::from_secs(10);
/// How long a batch waits for the connection to come back.
const RECONNECT: Duration = Duration::from_secs(5);
/// How often the connection is looked at when it says nothing.
const WATCH: Duration = Duration::from_millis(500);
/// Keys found to be held up in one go; what is left then counts as held up too.
const ROUNDS: usize = 8;
const PERSISTENT: u8 = 2;

#[derive(Debug)]
pub(super) struct Publisher {
    session: watch::Sender<Option<Arc<Session>>>,
    /// Returned messages are told apart within one batch only, so batches go one by one. What is known of queues that do
    /// not confirm outlives the connection: the wait for them is not begun anew with each.
    turn: Mutex<HeldUp>,
    state: State,
}

/// One connection's life.
struct Session {
    link: Link,
    channel: Channel,
    /// Where the broker is asked whether it listens: the other channel may wait for a queue.
    side: Channel,
    /// Set by whoever finds it unusable.
    broken: CancellationToken,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("healthy", &self.healthy()).finish_non_exhaustive()
    }
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self { session: watch::Sender::new(None), turn: Mutex::default(), state: State::new(Phase::Idle) }
    }

    pub(super) fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    /// Keeps a session up until shutdown.
    pub(super) async fn run(&self, address: &Address, shutdown: &CancellationToken) {
        let mut pauses = Pauses::new();
        self.state.enter(Phase::Connecting);
        while let Some(opened) = shutdown.run_until_cancelled(Session::open(address)).await {
            match opened {
                Ok(session) => {
                    pauses = Pauses::new();
                    self.supervise(Arc::new(session), shutdown).await;
                }
                Err(error) => self.state.fail("publisher", &error),
            }
            pauses.pause(shutdown).await;
        }
        self.state.enter(Phase::Idle);
    }

    /// Offers the session to publishers until it breaks.
    async fn supervise(&self, session: Arc<Session>, shutdown: &CancellationToken) {
        tracing::info!("event bus: publisher connected");
        self.session.send_replace(Some(Arc::clone(&session)));
        let mut events = std::pin::pin!(session.link.events());
        while session.healthy() && !shutdown.is_cancelled() {
            self.state.enter(if session.link.blocked() { Phase::Blocked } else { Phase::Connected });
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = session.broken.cancelled() => {}
                _ = events.next() => {}
                () = time::sleep(WATCH) => {}
            }
        }
        self.session.send_replace(None);
        if shutdown.is_cancelled() {
            session.link.close().await;
        } else {
            self.state.fail("publisher", &BusError::Unavailable);
        }
    }

    pub(super) async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError> {
        let mut held_up = self.turn.lock().await;
        let mut receipts = Vec::with_capacity(batch.len());
        for chunk in batch.chunks(MAX_BATCH) {
            receipts.extend(self.publish_chunk(chunk, &mut held_up).await?);
        }
        Ok(receipts)
    }

    /// Every round settles all messages, or finds one more key to be held back.
    async fn publish_chunk(&self, chunk: &[Outbound], held_up: &mut HeldUp) -> Result<Vec<Receipt>, BusError> {
        let mut receipts = vec![None; chunk.len()];
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let mut open = Vec::new();
            for (message, receipt) in chunk.iter().zip(&mut receipts).filter(|(_, receipt)| receipt.is_none()) {
                if held_up.holds(&message.routing_key, now) {
                    *receipt = Some(Receipt::HeldUp);
                } else {
                    open.push((message, receipt));
                }
            }
            if open.is_empty() {
                break;
            }
            let session = self.session().await?;
            if session.link.blocked() {
                return Err(BusError::Blocked);
            }
            let messages: Vec<_> = open.iter().map(|(message, _)| *message).collect();
            match session.send(&messages, held_up).await {
                Ok(sent) => {
                    if sent.contains(&None) {
                        // Late confirms must not be taken for others; and its channel waits, perhaps for ever.
                        session.broken.cancel();
                    }
                    open.into_iter().zip(sent).for_each(|((_, receipt), sent)| *receipt = sent);
                }
                Err(error) => {
                    session.broken.cancel();
                    return Err(error);
                }
            }
        }
        Ok(receipts.into_iter().map(|receipt| receipt.unwrap_or(Receipt::HeldUp)).collect())
    }

    /// Deletes those of the servers' queues that nobody reads from: the log has what they held, and one of them may be what
    /// holds others up. A live server sees to its own queue. Answers how many were deleted.
    pub(super) async fn heal(&self, address: &Address, servers: &[ServerId]) -> Result<usize, BusError> {
        let link = Link::open(address, "ddm publisher, queues").await?;
        let mut deleted = 0;
        for server in servers {
            let name = topology::server_queue(server);
            if topology::is_unread(&link, &name).await? {
                topology::delete(&link, &name).await?;
                tracing::warn!(
                    queue = name,
                    "event bus: deleted a queue that nobody reads from; its server will make it anew"
                );
                deleted += 1;
            }
        }
        link.close().await;
        self.turn.lock().await.try_again(Instant::now());
        Ok(deleted)
    }

    async fn session(&self) -> Result<Arc<Session>, BusError> {
        let mut sessions = self.session.subscribe();
        let healthy = sessions.wait_for(|session| session.as_ref().is_some_and(|session| session.healthy()));
        match time::timeout(RECONNECT, healthy).await {
            Ok(Ok(session)) => session.clone().ok_or(BusError::Unavailable),
            _ => Err(BusError::Unavailable),
        }
    }
}

impl Session {
    async fn open(address: &Address) -> Result<Self, BusError> {
        let link = Link::open(address, "ddm publisher").await?;
        topology::declare_shared(&link).await?;
        let (channel, side) = (link.channel().await?, link.channel().await?);
        reply("confirm mode", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { link, channel, side, broken: CancellationToken::new() })
    }

    fn healthy(&self) -> bool {
        !self.broken.is_cancelled() && self.link.connected() && self.channel.status().connected()
    }

    /// Puts a whole batch in flight, has the broker say that it listens, then awaits every confirm: what is not confirmed
    /// after that waits for a queue and not for the broker. `None` stands for what is to be sent again; the key of the first
    /// of them is held back from now on.
    async fn send(&self, batch: &[&Outbound], held_up: &mut HeldUp) -> Result<Vec<Option<Receipt>>, BusError> {
        let in_flight = time::timeout(TAKEN, put_in_flight(&self.channel, batch)).await;
        let confirms = in_flight.unwrap_or(Err(BusError::Deadline("publishing")))?;
        topology::look_for_events(&self.side).await?;
        let now = Instant::now();
        // lapin hands a returned message to whichever confirm completes next: only the whole batch tells which it was.
        let mut returned = HashSet::new();
        let mut receipts = Vec::with_capacity(batch.len());
        for (message, confirm) in batch.iter().zip(confirms) {
            let Some(confirm) = confirm else {
                receipts.push(Some(Receipt::Unrouted));
                continue;
            };
            let key = &message.routing_key;
            // The channel is worked off in order: after one that did not come the others had their time.
            let until = if receipts.contains(&None) { now } else { now + held_up.patience(key) };
            receipts.push(match time::timeout_at(until, confirm).await {
                Ok(Ok(Confirmation::Ack(message))) => {
                    returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
                    Some(Receipt::Confirmed)
                }
                Ok(Ok(Confirmation::Nack(_))) => {
                    held_up.blame(key, Instant::now());
                    Some(Receipt::HeldUp)
                }
                Ok(Ok(Confirmation::NotRequested)) => return Err(BusError::Refused),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => None,
            });
        }
        for (message, receipt) in batch.iter().zip(&mut receipts) {
            if returned.iter().any(|id: &ShortString| id.as_str() == message.id) {
                *receipt = Some(Receipt::Unrouted);
            } else if *receipt == Some(Receipt::Confirmed) {
                held_up.clear(&message.routing_key);
            }
        }
        if let Some((message, _)) = batch.iter().zip(&receipts).find(|(_, receipt)| receipt.is_none()) {
            held_up.blame(&message.routing_key, Instant::now());
        }
        Ok(receipts)
    }
}

/// Sends all messages. `None` stands for what cannot be sent.
async fn put_in_flight(channel: &Channel, batch: &[&Outbound]) -> Result<Vec<Option<PublisherConfirm>>, BusError> {
    let mut sending = Vec::with_capacity(batch.len());
    for message in batch {
        sending.push(match Frame::of(message) {
            None => future::Either::Left(future::ready(Ok(None))),
            Some(frame) => {
                let mut publish = Box::pin(frame.publish(channel));
                // The first poll queues the frames, and so in order; the socket takes them while the next are queued.
                match poll!(&mut publish) {
                    std::task::Poll::Ready(done) => future::Either::Left(future::ready(done.map(Some))),
                    std::task::Poll::Pending => future::Either::Right(async { publish.await.map(Some) }),
                }
            }
        });
    }
    let mut confirms = Vec::with_capacity(batch.len());
    for sent in sending {
        confirms.push(sent.await?);
    }
    Ok(confirms)
}

/// A message that fits the protocol.
struct Frame<'a> {
    id: ShortString,
    key: ShortString,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `None` for a message that the broker or its readers would refuse for ever; sending it would block all behind it.
    fn of(message: &'a Outbound) -> Option<Self> {
        let fits = message.body.len() <= MAX_BODY;
        match (ShortString::try_new(&*message.id), ShortString::try_new(&*message.routing_key)) {
            (Ok(id), Ok(key)) if fits => Some(Self { id, key, body: &message.body }),
            _ => {
                let (id, bytes) = (&message.id, message.body.len());
                tracing::error!(id, bytes, "event bus: message is too large to send, servers will find it in the log");
                None
            }
        }
    }

    async fn publish(self, channel: &Channel) -> lapin::Result<PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_message_id(self.id)
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        channel.basic_publish(topology::EVENTS.into(), self.key, options, self.body, properties).await
    }
}
