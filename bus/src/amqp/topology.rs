//! Exchanges, queues and bindings.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use wire::ServerId;

use super::link::{Link, reply};
use crate::{BusError, Subscription};

/// Every event goes through it.
pub(super) const EVENTS: &str = "ddm.events";
/// The exchange of parked messages and the queue that keeps them.
const DEAD: &str = "ddm.dead";

/// AMQP 0-9-1 reply codes.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

pub(super) fn server_queue(server: &ServerId) -> String {
    format!("ddm.server.{server}")
}

/// Whether a queue exists and nobody consumes from it.
pub(super) async fn is_unread(link: &Link, name: &str) -> Result<bool, BusError> {
    let channel = link.channel().await?;
    match reply("queue", channel.queue_declare(name.into(), passive(), FieldTable::default())).await {
        Ok(queue) => Ok(queue.consumer_count() == 0),
        Err(error) if error.is_reply(NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has the broker say that the exchange of events is there.
pub(super) async fn look_for_events(channel: &Channel) -> Result<(), BusError> {
    let options = ExchangeDeclareOptions { passive: true, durable: true, ..Default::default() };
    let found = channel.exchange_declare(EVENTS.into(), ExchangeKind::Topic, options, FieldTable::default());
    reply("confirms", found).await
}

/// Makes sure of what both sides need.
pub(super) async fn declare_shared(link: &Link) -> Result<(), BusError> {
    exchange(link, EVENTS, ExchangeKind::Topic).await?;
    exchange(link, DEAD, ExchangeKind::Fanout).await?;
    match queue(link, DEAD, passive(), FieldTable::default()).await {
        Err(error) if error.is_reply(NOT_FOUND) => queue(link, DEAD, durable(), dead_arguments()).await,
        other => other,
    }?;
    match bind(link, DEAD, DEAD, &[String::new()]).await {
        // A file server's broker user may not; the info-server's may, and does.
        Err(error) if error.is_reply(ACCESS_REFUSED) => Ok(()),
        other => other,
    }
}

/// Makes sure of a file server's queue and its bindings.
pub(super) async fn declare_server(link: &Link, subscription: &Subscription) -> Result<(), BusError> {
    let name = server_queue(&subscription.server);
    match queue(link, &name, durable(), server_arguments()).await {
        Err(error) if error.is_reply(PRECONDITION_FAILED) => {
            // Of another version. What it held is in the log, which the handler is told to read.
            tracing::warn!(queue = name, "event bus: the queue has other arguments than ours, it is made anew");
            delete(link, &name).await?;
            queue(link, &name, durable(), server_arguments()).await
        }
        other => other,
    }?;
    bind(link, &name, EVENTS, &wire::event::bindings(&subscription.server, &subscription.zone)).await
}

/// Deletes a queue that exists but lets nobody consume. A quorum queue that is younger than its node's last sync is found
/// without a leader after the node was killed: it confirms nothing any more, and so holds up every publisher.
pub(super) async fn delete_leaderless(link: &Link, name: &str) -> Result<(), BusError> {
    tracing::warn!(queue = name, "event bus: the queue does not answer, it is deleted and will be made anew");
    delete(link, name).await
}

pub(super) async fn delete(link: &Link, name: &str) -> Result<(), BusError> {
    let channel = link.channel().await?;
    reply("delete", channel.queue_delete(name.into(), QueueDeleteOptions::default())).await.map(drop)
}

/// Declares on a channel of its own, as the broker closes the channel of a declaration that fails.
async fn exchange(link: &Link, name: &str, kind: ExchangeKind) -> Result<(), BusError> {
    let declare = async |passive| {
        let channel = link.channel().await?;
        let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
        let declared = channel.exchange_declare(name.into(), kind.clone(), options, FieldTable::default());
        reply("exchange", declared).await
    };
    match declare(true).await {
        // Looking needs no right, making does.
        Err(error) if error.is_reply(NOT_FOUND) => declare(false).await,
        other => other,
    }
}

async fn queue(link: &Link, name: &str, options: QueueDeclareOptions, arguments: FieldTable) -> Result<(), BusError> {
    let channel = link.channel().await?;
    reply("queue", channel.queue_declare(name.into(), options, arguments)).await.map(drop)
}

async fn bind(link: &Link, queue: &str, exchange: &str, keys: &[String]) -> Result<(), BusError> {
    let channel = link.channel().await?;
    for key in keys {
        let options = QueueBindOptions::default();
        let bound =
            channel.queue_bind(queue.into(), exchange.into(), key.as_str().into(), options, FieldTable::default());
        reply("binding", bound).await?;
    }
    Ok(())
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..Default::default() }
}

pub(super) fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..durable() }
}

/// Changing any of these makes every file server delete its queue once, see [`declare_server`].
fn server_arguments() -> FieldTable {
    const EIGHT_DAYS_MS: i64 = 8 * 24 * 3600 * 1000;
    let mut arguments = bounded(100_000, 256 << 20);
    // 4.x would set 20 by itself, 3.x none.
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(20));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(DEAD.into()));
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(EIGHT_DAYS_MS));
    arguments
}

fn dead_arguments() -> FieldTable {
    bounded(10_000, 64 << 20)
}

/// A quorum queue that drops its oldest message rather than grow.
fn bounded(messages: i64, bytes: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(messages));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes));
    arguments
}
