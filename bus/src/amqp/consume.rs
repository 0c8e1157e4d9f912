//! The consuming side: batches from a file server's queue, each message settled by the handler's verdict.

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
    address::Address,
    link::{Link, reply},
    settle::{self, Answer},
    topology,
};
use crate::{Batch, BusError, Handler, MAX_BATCH, MAX_BODY, Phase, Subscription, Verdict, pause::Pauses, state::State};

const PREFETCH: u16 = 256;
/// How often the broker is asked whether the queue is still there. A channel it closed would be silent for ever.
const PROBE: Duration = Duration::from_secs(5);
/// Between two lines about messages that were set aside.
const QUIET: Duration = Duration::from_secs(30);

/// Consumes until shutdown, joining the queue anew whenever anything fails.
pub(super) async fn run(
    address: &Address,
    subscription: &Subscription,
    (handler, state): (&dyn Handler, &State),
    shutdown: &CancellationToken,
) {
    let mut pauses = Pauses::new();
    state.enter(Phase::Connecting);
    while let Some(joined) = shutdown.run_until_cancelled(Session::join(address, subscription)).await {
        let ended = match joined {
            Ok(session) => {
                pauses = Pauses::new();
                tracing::info!(queue = %session.queue, "event bus: subscriber connected");
                state.enter(Phase::Connected);
                handler.resynchronise().await;
                session.work(handler, shutdown).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            state.fail("subscriber", &error);
        }
        pauses.pause(shutdown).await;
    }
    state.enter(Phase::Idle);
}

/// One connection's life.
struct Session {
    link: Link,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    /// Messages to be tried again, by delivery tag, and when they go back to the queue.
    held: BTreeMap<u64, Instant>,
    /// Messages set aside that no line told of, and when one last did: a flood of poison must not become one of lines.
    parked: u64,
    told: Option<Instant>,
}

impl Session {
    async fn join(address: &Address, subscription: &Subscription) -> Result<Self, BusError> {
        let link = Link::open(address, &format!("ddm file-server {}", subscription.server)).await?;
        topology::declare_shared(&link).await?;
        topology::declare_server(&link, subscription).await?;
        let (channel, queue) = (link.channel().await?, topology::server_queue(&subscription.server));
        reply("prefetch", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let (tag, options) = ("ddm".into(), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(queue.as_str().into(), tag, options, FieldTable::default());
        let consumer = match reply("consume", consumer).await {
            Err(BusError::Deadline(what)) => {
                topology::delete_leaderless(&link, &queue).await?;
                return Err(BusError::Deadline(what));
            }
            other => other?,
        };
        Ok(Self { link, channel, consumer, queue, held: BTreeMap::new(), parked: 0, told: None })
    }

    /// Works until shutdown, or until the connection, the channel, the queue or the consumer is gone.
    async fn work(mut self, handler: &dyn Handler, shutdown: &CancellationToken) -> Result<(), BusError> {
        let mut probe = time::interval_at(Instant::now() + PROBE, PROBE);
        probe.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let due = self.held.values().min().copied();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.give_back().await?,
                _ = probe.tick() => {
                    self.tell_parked();
                    self.probe().await?;
                }
                delivery = self.consumer.next() => {
                    let first = delivery.ok_or(BusError::Cancelled)??;
                    let batch = self.gather(first);
                    self.handle(batch, handler).await?;
                }
            }
        }
        // What is unsettled goes back to the queue with the connection.
        self.link.close().await;
        Ok(())
    }

    /// The delivery and whatever else is here already. An error among them ends the batch and shows at the next one.
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
                "event bus: the handler judged another number of messages"
            );
        }
        let mut verdicts = verdicts.into_iter();
        let judged: Vec<_> = batch
            .iter()
            .zip(readable)
            .map(|(delivery, readable)| {
                let verdict = if readable { verdicts.next().unwrap_or(Verdict::Retry) } else { Verdict::Park };
                (delivery, verdict)
            })
            .collect();
        self.settle(&judged).await
    }

    async fn settle(&mut self, judged: &[(&Delivery, Verdict)]) -> Result<(), BusError> {
        for (delivery, verdict) in judged {
            match verdict {
                Verdict::Ack => {}
                Verdict::Retry => {
                    let until = Instant::now() + settle::hold(deliveries(delivery));
                    self.held.insert(delivery.delivery_tag, until);
                }
                Verdict::Park => self.parked += 1,
            }
        }
        self.tell_parked();
        let tags: Vec<_> = judged.iter().map(|(delivery, verdict)| (delivery.delivery_tag, *verdict)).collect();
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

    fn tell_parked(&mut self) {
        let quiet = self.told.is_some_and(|told| told.elapsed() < QUIET);
        if self.parked > 0 && !quiet {
            tracing::warn!(queue = %self.queue, messages = self.parked, "event bus: set aside in ddm.dead what is no event");
            (self.parked, self.told) = (0, Some(Instant::now()));
        }
    }

    /// Returns to the queue what was held long enough.
    async fn give_back(&mut self) -> Result<(), BusError> {
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

/// How often a message was delivered before, by the broker's count.
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
