//! One connection of the publisher.

use std::{
    collections::HashSet,
    sync::{Mutex as StdMutex, atomic::AtomicBool},
    time::Duration,
};

use futures::{future, poll};
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    BusError, MAX_BODY, Outbound, Receipt,
    amqp::{
        broker::Broker,
        connection::{BrokerConnection, reply},
        topology::{self, Side},
        unconfirmed_keys::UnconfirmedKeys,
    },
    state::State,
};

/// Time to write a whole batch to the socket. A broker that raises an alarm in between stops reading.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two checks whether an alarm holds up a batch.
const BLOCKED_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// AMQP delivery mode of messages that survive a restart of the broker.
const PERSISTENT_DELIVERY: u8 = 2;

/// Publisher's use of one connection.
pub(super) struct Session {
    pub(super) connection: BrokerConnection,
    channel: Channel,
    /// Channel to ask the broker whether it still answers, because the publishing channel may wait for a queue.
    probe_channel: Channel,
    /// Cancelled when the session is found unusable.
    pub(super) broken: CancellationToken,
    /// Failure for which it was.
    pub(super) failure: StdMutex<Option<BusError>>,
    /// Set once a batch was confirmed.
    pub(super) proven: AtomicBool,
    /// Set once messages were sent whose confirms an alarm holds back.
    pub(super) stuck: AtomicBool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("healthy", &self.healthy()).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) async fn open(broker: &Broker, state: &State) -> Result<Self, BusError> {
        let connection = BrokerConnection::open(broker, "ddm publisher").await?;
        topology::declare_shared(&connection, Side::Publisher).await?;
        state.dead_letters(topology::declare_dead_letters(&connection, Side::Publisher).await?.as_ref());
        let (channel, probe_channel) = (connection.channel().await?, connection.channel().await?);
        reply("confirm mode", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self {
            connection,
            channel,
            probe_channel,
            broken: CancellationToken::new(),
            failure: StdMutex::default(),
            proven: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
        })
    }

    async fn until_blocked(&self) {
        while !self.connection.blocked() {
            time::sleep(BLOCKED_POLL_INTERVAL).await;
        }
    }

    pub(super) fn healthy(&self) -> bool {
        !self.broken.is_cancelled() && self.connection.connected() && self.channel.status().connected()
    }

    /// Sends a whole batch, checks that the broker answers, then waits for every confirm: a confirm that is missing after that
    /// check waits for a queue and not for the broker. `None` stands for a message to send again; the key of the first of them is
    /// held back from now on.
    pub(super) async fn send(
        &self,
        batch: &[&Outbound],
        unconfirmed: &mut UnconfirmedKeys,
    ) -> Result<Vec<Option<Receipt>>, BusError> {
        let in_flight = time::timeout(SEND_TIMEOUT, send_all(&self.channel, batch)).await;
        let confirms = in_flight.unwrap_or(Err(BusError::Deadline("publishing")))?;
        tokio::select! {
            // The broker tells of an alarm when it reads what was sent.
            () = self.until_blocked() => return Err(blocked(None)),
            answered = topology::probe_channel(&self.probe_channel) => answered?,
        }
        let now = Instant::now();
        // lapin attaches a returned message to the confirm that completes next, so only the whole batch shows which one it was.
        let mut returned = HashSet::new();
        let mut receipts = Vec::with_capacity(batch.len());
        for (message, confirm) in batch.iter().zip(confirms) {
            let Some(confirm) = confirm else {
                receipts.push(Some(Receipt::Unrouted));
                continue;
            };
            let key = &message.routing_key;
            // The broker confirms in order: after a missing confirm the later ones had their time too.
            let until = if receipts.contains(&None) { now } else { now + unconfirmed.confirm_timeout(key) };
            receipts.push(match time::timeout_at(until, confirm).await {
                Ok(Ok(Confirmation::Ack(message))) => {
                    returned.extend(message.and_then(|message| message.delivery.properties.message_id().clone()));
                    Some(Receipt::Confirmed)
                }
                Ok(Ok(Confirmation::Nack(_))) => {
                    unconfirmed.hold_back(key, Instant::now());
                    Some(Receipt::Unconfirmed)
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
                unconfirmed.release(&message.routing_key);
            }
        }
        if let Some((message, _)) = batch.iter().zip(&receipts).find(|(_, receipt)| receipt.is_none()) {
            unconfirmed.hold_back(&message.routing_key, Instant::now());
        }
        Ok(receipts)
    }
}

/// Makes the error of an alarm.
pub(super) fn blocked(alarm: Option<&str>) -> BusError {
    BusError::Blocked { alarm: alarm.unwrap_or("disk or memory alarm").to_owned() }
}

/// Sends all messages. `None` stands for a message that cannot be sent.
async fn send_all(channel: &Channel, batch: &[&Outbound]) -> Result<Vec<Option<PublisherConfirm>>, BusError> {
    let mut sending = Vec::with_capacity(batch.len());
    for message in batch {
        sending.push(match Frame::of(message) {
            None => future::Either::Left(future::ready(Ok(None))),
            Some(frame) => {
                let mut publish = Box::pin(frame.publish(channel));
                // The first poll queues the frames, which keeps the order; the socket sends them while the next are queued.
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

/// Message within the limits of the protocol.
struct Frame<'a> {
    id: ShortString,
    key: ShortString,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Returns `None` for a message that the broker or its consumers would always refuse; sending it would block all later ones.
    fn of(message: &'a Outbound) -> Option<Self> {
        let fits = message.body.len() <= MAX_BODY;
        match (ShortString::try_new(&*message.id), ShortString::try_new(&*message.routing_key)) {
            (Ok(id), Ok(key)) if fits => Some(Self { id, key, body: &message.body }),
            _ => {
                let (id, bytes) = (&message.id, message.body.len());
                tracing::error!(
                    id,
                    bytes,
                    "Event bus: message {id} is too large to send; servers read it from the log"
                );
                None
            }
        }
    }

    async fn publish(self, channel: &Channel) -> lapin::Result<PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_message_id(self.id)
            .with_delivery_mode(PERSISTENT_DELIVERY)
            .with_content_type("application/json".into());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        channel.basic_publish(topology::EVENTS_EXCHANGE.into(), self.key, options, self.body, properties).await
    }
}
