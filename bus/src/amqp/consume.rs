//! The consuming side: batches from a file server's queue, in which each message is settled by the handler's verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::{
    broker::Broker,
    connection::{BrokerConnection, reply},
    settle::{self, Answer, TaggedVerdict},
    topology::{self, Side},
};
use crate::{
    Batch, BusError, Handler, MAX_BATCH, MAX_BODY, Phase, Subscription, Verdict,
    backoff::Backoff,
    state::{STABLE_TIME, State},
};

/// Messages that the broker delivers ahead of their acknowledgement; equal to [`MAX_BATCH`].
const PREFETCH_COUNT: u16 = 256;
/// Time between two checks that the queue still exists. A channel that the broker closed stays silent for ever.
const QUEUE_PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two bindings of the queue. The broker says nothing when an exchange is deleted and made again without them.
const BIND_INTERVAL: Duration = Duration::from_secs(15);
/// Shortest time between two warnings about dead-lettered messages.
const DEAD_LETTER_WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// Consumer of one file server's queue, across connections.
pub(super) struct QueueConsumer<'a> {
    pub(super) broker: &'a Broker,
    pub(super) subscription: &'a Subscription,
    pub(super) handler: &'a dyn Handler,
    pub(super) state: &'a State,
}

impl QueueConsumer<'_> {
    /// Consumes until shutdown, and joins the queue again whenever anything fails.
    pub(super) async fn run(self, shutdown: &CancellationToken) {
        let Self { broker, subscription, handler, state } = self;
        let mut backoff = Backoff::new();
        state.enter(Phase::Connecting);
        while let Some(joined) = shutdown.run_until_cancelled(Session::join(broker, subscription, state)).await {
            let ended = match joined {
                Ok(session) => {
                    let joined = Instant::now();
                    if state.enter(Phase::Connected) {
                        let (queue, host) = (&session.queue, session.connection.host());
                        tracing::info!(queue, host, "Event bus: subscribed to queue {queue} at {host}");
                    }
                    handler.resynchronise().await;
                    let ended = session.work(handler, state, shutdown).await;
                    // A subscription that ends at once is no reason to try again soon.
                    if joined.elapsed() >= STABLE_TIME {
                        backoff = Backoff::new();
                    }
                    ended
                }
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                state.fail("subscriber", &error);
            }
            backoff.pause(shutdown).await;
        }
        state.enter(Phase::Idle);
    }
}

/// Subscription over one connection.
struct Session {
    connection: BrokerConnection,
    subscription: Subscription,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    /// Messages to retry, by delivery tag, with the time at which they go back to the queue.
    held: BTreeMap<u64, Instant>,
    /// Dead-lettered messages that no warning has counted yet.
    dead_lettered: u64,
    /// Time of the latest warning about them, so that many unreadable messages do not become as many log lines.
    warned_at: Option<Instant>,
}

impl Session {
    async fn join(broker: &Broker, subscription: &Subscription, state: &State) -> Result<Self, BusError> {
        let connection = BrokerConnection::open(broker, &format!("ddm file-server {}", subscription.server)).await?;
        topology::declare_shared(&connection, Side::Subscriber).await?;
        state.dead_letters(topology::declare_dead_letters(&connection, Side::Subscriber).await?.as_ref());
        topology::declare_server(&connection, subscription).await?;
        let (channel, queue) = (connection.channel().await?, topology::server_queue(&subscription.server));
        reply("prefetch", channel.basic_qos(PREFETCH_COUNT, BasicQosOptions::default())).await?;
        let (tag, options) = ("ddm".into(), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(queue.as_str().into(), tag, options, FieldTable::default());
        let consumer = match reply("consume", consumer).await {
            Err(BusError::Deadline(what)) => {
                topology::delete_leaderless(&connection, &queue).await?;
                return Err(BusError::Deadline(what));
            }
            other => other?,
        };
        let subscription = subscription.clone();
        Ok(Self {
            connection,
            subscription,
            channel,
            consumer,
            queue,
            held: BTreeMap::new(),
            dead_lettered: 0,
            warned_at: None,
        })
    }

    /// Consumes until shutdown, or until the connection, the channel, the queue or the consumer is gone.
    async fn work(
        mut self,
        handler: &dyn Handler,
        state: &State,
        shutdown: &CancellationToken,
    ) -> Result<(), BusError> {
        let mut probe = time::interval_at(Instant::now() + QUEUE_PROBE_INTERVAL, QUEUE_PROBE_INTERVAL);
        probe.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut bind = time::interval_at(Instant::now() + BIND_INTERVAL, BIND_INTERVAL);
        bind.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let due = self.held.values().min().copied();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.requeue_due().await?,
                _ = probe.tick() => {
                    self.warn_dead_lettered();
                    self.probe().await?;
                }
                _ = bind.tick() => {
                    topology::bind_server(&self.connection, &self.subscription).await?;
                    let dead_letters = topology::declare_dead_letters(&self.connection, Side::Subscriber).await?;
                    state.dead_letters(dead_letters.as_ref());
                }
                delivery = self.consumer.next() => {
                    let first = delivery.ok_or(BusError::Cancelled)??;
                    let batch = self.gather(first);
                    self.handle(batch, handler).await?;
                }
            }
        }
        // The broker returns unsettled messages to the queue when the connection ends.
        self.connection.close().await;
        Ok(())
    }

    /// Returns a batch of the first delivery and those that have arrived already. An error among them ends the batch and is returned
    /// with the next one.
    fn gather(&mut self, first: Delivery) -> Vec<Delivery> {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Some(Some(Ok(delivery))) = self.consumer.next().now_or_never()
        {
            batch.push(delivery);
        }
        batch
    }

    async fn handle(&mut self, mut batch: Vec<Delivery>, handler: &dyn Handler) -> Result<(), BusError> {
        let readable: Vec<_> = batch.iter().map(|delivery| delivery.data.len() <= MAX_BODY).collect();
        let bodies = batch.iter_mut().map(|delivery| std::mem::take(&mut delivery.data));
        let bodies: Vec<_> =
            bodies.zip(&readable).filter(|(_, readable)| **readable).map(|(body, _)| Bytes::from(body)).collect();
        let expected = bodies.len();
        let verdicts = if bodies.is_empty() { Vec::new() } else { handler.apply(Batch::Queued(bodies)).await };
        if verdicts.len() != expected {
            tracing::error!(
                expected,
                given = verdicts.len(),
                "Event bus: the handler returned {} verdicts for {expected} messages",
                verdicts.len()
            );
        }
        let mut verdicts = verdicts.into_iter();
        let judged: Vec<_> = batch
            .iter()
            .zip(readable)
            .map(|(delivery, readable)| {
                let verdict = if readable { verdicts.next().unwrap_or(Verdict::Retry) } else { Verdict::DeadLetter };
                JudgedDelivery { delivery, verdict }
            })
            .collect();
        self.settle(&judged).await
    }

    async fn settle(&mut self, judged: &[JudgedDelivery<'_>]) -> Result<(), BusError> {
        for JudgedDelivery { delivery, verdict } in judged {
            match verdict {
                Verdict::Ack => {}
                Verdict::Retry => {
                    let until = Instant::now() + settle::retry_pause(deliveries(delivery));
                    self.held.insert(delivery.delivery_tag, until);
                }
                Verdict::DeadLetter => self.dead_lettered += 1,
            }
        }
        self.warn_dead_lettered();
        let tags: Vec<_> = judged
            .iter()
            .map(|JudgedDelivery { delivery, verdict }| TaggedVerdict { tag: delivery.delivery_tag, verdict: *verdict })
            .collect();
        let held: BTreeSet<_> = self.held.keys().copied().collect();
        for answer in settle::answers(&tags, &held) {
            match answer {
                Answer::Ack { tag, multiple } => {
                    reply("ack", self.channel.basic_ack(tag, BasicAckOptions { multiple })).await?;
                }
                Answer::Reject { tag } => {
                    reply("reject", self.channel.basic_reject(tag, BasicRejectOptions { requeue: false })).await?;
                }
            }
        }
        Ok(())
    }

    fn warn_dead_lettered(&mut self) {
        let quiet = self.warned_at.is_some_and(|at| at.elapsed() < DEAD_LETTER_WARNING_INTERVAL);
        if self.dead_lettered > 0 && !quiet {
            tracing::warn!(
                queue = %self.queue,
                messages = self.dead_lettered,
                "Event bus: moved unreadable messages of queue {} to ddm.dead",
                self.queue
            );
            (self.dead_lettered, self.warned_at) = (0, Some(Instant::now()));
        }
    }

    /// Returns held messages whose pause is over to the queue.
    async fn requeue_due(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let due: Vec<_> = self.held.iter().filter(|(_, until)| **until <= now).map(|(tag, _)| *tag).collect();
        for tag in due {
            self.held.remove(&tag);
            let options = BasicNackOptions { multiple: false, requeue: true };
            reply("nack", self.channel.basic_nack(tag, options)).await?;
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), BusError> {
        let found = self.channel.queue_declare(self.queue.as_str().into(), topology::passive(), FieldTable::default());
        reply("probe", found).await.map(drop)
    }
}

/// Delivery with the handler's verdict.
struct JudgedDelivery<'a> {
    delivery: &'a Delivery,
    verdict: Verdict,
}

/// Returns the number of earlier deliveries of a message, by the broker's count.
fn deliveries(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    let count = match headers.and_then(|headers| headers.inner().get("x-delivery-count")) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => (*count).into(),
        Some(AMQPValue::LongUInt(count)) => (*count).into(),
        Some(AMQPValue::ShortInt(count)) => (*count).into(),
        Some(AMQPValue::ShortShortInt(count)) => (*count).into(),
        Some(AMQPValue::ShortShortUInt(count)) => (*count).into(),
        _ => 0,
    };
    count.try_into().unwrap_or(0)
}
