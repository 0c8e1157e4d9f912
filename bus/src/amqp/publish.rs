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
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    address::Address,
    link::{Link, reply},
    topology,
};
use crate::{BusError, BusState, MAX_BATCH, MAX_BODY, Outbound, Phase, Receipt, pause::Pauses, state::State};

/// Until all of a batch is confirmed. A broker that raises an alarm midway confirms nothing.
const CONFIRMS: Duration = Duration::from_secs(10);
/// How long a batch waits for the connection to come back.
const RECONNECT: Duration = Duration::from_secs(5);
/// How often the connection is looked at when it says nothing.
const WATCH: Duration = Duration::from_millis(500);
const PERSISTENT: u8 = 2;

#[derive(Debug)]
pub(super) struct Publisher {
    session: watch::Sender<Option<Arc<Session>>>,
    /// Returned messages are told apart within one batch only, so batches go one by one.
    turn: Mutex<()>,
    state: State,
}

/// One connection's life.
struct Session {
    link: Link,
    channel: Channel,
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
        Self { session: watch::Sender::new(None), turn: Mutex::new(()), state: State::new(Phase::Idle) }
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
        let _turn = self.turn.lock().await;
        let mut receipts = Vec::with_capacity(batch.len());
        for chunk in batch.chunks(MAX_BATCH) {
            let session = self.session().await?;
            if session.link.blocked() {
                return Err(BusError::Blocked);
            }
            let sent = time::timeout(CONFIRMS, session.send(chunk)).await;
            match sent.unwrap_or(Err(BusError::Deadline("confirms"))) {
                Ok(sent) => receipts.extend(sent),
                Err(error) => {
                    // Late confirms and returns of this batch must not be taken for those of the next.
                    session.broken.cancel();
                    return Err(error);
                }
            }
        }
        Ok(receipts)
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
        let channel = link.channel().await?;
        reply("confirm mode", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { link, channel, broken: CancellationToken::new() })
    }

    fn healthy(&self) -> bool {
        !self.broken.is_cancelled() && self.link.connected() && self.channel.status().connected()
    }

    /// Puts a whole batch in flight, then awaits every confirm.
    async fn send(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError> {
        let mut sending = Vec::with_capacity(batch.len());
        for message in batch {
            sending.push(match Frame::of(message) {
                None => future::Either::Left(future::ready(Ok(None))),
                Some(frame) => {
                    let mut publish = Box::pin(frame.publish(&self.channel));
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
        // lapin hands a returned message to whichever confirm completes next: only the whole batch tells which it was.
        let mut returned = HashSet::new();
        let mut sent = Vec::with_capacity(batch.len());
        for confirm in confirms {
            let Some(confirm) = confirm else {
                sent.push(false);
                continue;
            };
            let message = match confirm.await? {
                Confirmation::Ack(message) => message,
                Confirmation::Nack(_) | Confirmation::NotRequested => return Err(BusError::Refused),
            };
            returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
            sent.push(true);
        }
        let receipt = |(message, sent): (&Outbound, bool)| {
            if sent && !returned.iter().any(|id: &ShortString| id.as_str() == message.id) {
                Receipt::Confirmed
            } else {
                Receipt::Unrouted
            }
        };
        Ok(batch.iter().zip(sent).map(receipt).collect())
    }
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
