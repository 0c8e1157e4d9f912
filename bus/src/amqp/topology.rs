//! Exchanges, queues and bindings.

use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

use wire::ServerId;

use super::connection::{BrokerConnection, reply};
use crate::{BusError, Subscription};

/// Exchange of all events.
pub(super) const EVENTS_EXCHANGE: &str = "ddm.events";
/// Name of the exchange for dead-lettered messages and of the queue that keeps them.
const DEAD_LETTERS: &str = "ddm.dead";

/// AMQP 0-9-1 reply codes.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;

pub(super) fn server_queue(server: &ServerId) -> String {
    format!("ddm.server.{server}")
}

/// Returns true if a queue exists and has no consumer.
pub(super) async fn is_unread(connection: &BrokerConnection, name: &str) -> Result<bool, BusError> {
    let channel = connection.channel().await?;
    match reply("queue", channel.queue_declare(name.into(), passive(), FieldTable::default())).await {
        Ok(queue) => Ok(queue.consumer_count() == 0),
        Err(error) if error.is_reply(NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns true if a queue exists.
pub(super) async fn exists(connection: &BrokerConnection, name: &str) -> Result<bool, BusError> {
    match queue(connection, name, passive(), FieldTable::default()).await {
        Err(error) if error.is_reply(NOT_FOUND) => Ok(false),
        found => found.map(|()| true),
    }
}

/// Makes the broker answer on `channel`, with a passive declaration of the exchange of events.
pub(super) async fn probe_channel(channel: &Channel) -> Result<(), BusError> {
    let options = ExchangeDeclareOptions { passive: true, durable: true, ..Default::default() };
    let found = channel.exchange_declare(EVENTS_EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default());
    reply("confirms", found).await
}

/// Side of a connection. A file server's broker user may declare nothing but its own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publisher,
    Subscriber,
}

/// Declares the exchanges, which both sides need.
pub(super) async fn declare_shared(connection: &BrokerConnection, side: Side) -> Result<(), BusError> {
    for (name, kind) in [(EVENTS_EXCHANGE, ExchangeKind::Topic), (DEAD_LETTERS, ExchangeKind::Fanout)] {
        match side {
            Side::Publisher => own_exchange(connection, name, kind).await?,
            Side::Subscriber => exchange(connection, name, kind).await?,
        }
    }
    Ok(())
}

/// Declares the queue of dead-lettered messages; returns what is wrong with one that stands there. Events do not wait for that.
///
/// # Errors
/// When the broker does not answer.
pub(super) async fn declare_dead_letters(
    connection: &BrokerConnection,
    side: Side,
) -> Result<Option<BusError>, BusError> {
    // A passive declaration does not look at type and arguments, and a file server's broker user has the right to no other.
    let declared = match side {
        Side::Publisher => queue(connection, DEAD_LETTERS, durable(), dead_arguments()).await,
        Side::Subscriber => queue(connection, DEAD_LETTERS, passive(), FieldTable::default()).await,
    };
    let (declared, is_bound) = match declared {
        Err(error) if side == Side::Subscriber && error.is_reply(NOT_FOUND) => {
            (queue(connection, DEAD_LETTERS, durable(), dead_arguments()).await, false)
        }
        Err(error) if side == Side::Publisher && error.is_reply(ACCESS_REFUSED) => {
            (queue(connection, DEAD_LETTERS, passive(), FieldTable::default()).await, false)
        }
        // The info-server binds the one that stands.
        other => (other, side == Side::Subscriber),
    };
    // A queue with other arguments takes messages as well, as long as it stands.
    let keys = if is_bound { &[][..] } else { &[String::new()][..] };
    let bound = match bind(connection, DEAD_LETTERS, DEAD_LETTERS, keys).await {
        // A user without the right to bind relies on the one that has it.
        Err(error) if error.is_reply(ACCESS_REFUSED) => Ok(()),
        other => other,
    };
    match declared.and(bound) {
        Ok(()) => Ok(None),
        Err(error) if error.code().is_some() => Ok(Some(BusError::DeadLetters(Box::new(error)))),
        Err(error) => Err(error),
    }
}

/// Declares a file server's queue and its bindings.
pub(super) async fn declare_server(connection: &BrokerConnection, subscription: &Subscription) -> Result<(), BusError> {
    let name = server_queue(&subscription.server);
    match queue(connection, &name, durable(), server_arguments()).await {
        Err(error) if error.is_other_kind() => {
            // Declared by another version. Its messages are in the log, which the handler reads after it has joined.
            delete(connection, &name).await?;
            tracing::warn!(
                queue = name, %error,
                "Event bus: queue {name} had other arguments than this version's and is declared again: {error}"
            );
            queue(connection, &name, durable(), server_arguments()).await
        }
        other => other,
    }?;
    bind_server(connection, subscription).await
}

/// Binds a file server's queue. Bindings that exist stay as they are.
pub(super) async fn bind_server(connection: &BrokerConnection, subscription: &Subscription) -> Result<(), BusError> {
    let name = server_queue(&subscription.server);
    bind(connection, &name, EVENTS_EXCHANGE, &wire::event::bindings(&subscription.server, &subscription.zone)).await
}

/// Deletes a queue that exists but accepts no consumer. A quorum queue that is younger than its node's last sync has no leader
/// after the node was killed: it confirms no message, and so delays every publisher.
pub(super) async fn delete_leaderless(connection: &BrokerConnection, name: &str) -> Result<(), BusError> {
    delete(connection, name).await?;
    tracing::warn!(queue = name, "Event bus: queue {name} did not answer; it is declared again");
    Ok(())
}

pub(super) async fn delete(connection: &BrokerConnection, name: &str) -> Result<(), BusError> {
    let channel = connection.channel().await?;
    reply("delete", channel.queue_delete(name.into(), QueueDeleteOptions::default())).await.map(drop)
}

/// Declares an exchange with the right to replace one of another type: a passive declaration does not look at the type, and messages
/// that an exchange of another type does not route are lost. Bindings that are lost with the old one are made again by their owners.
async fn own_exchange(connection: &BrokerConnection, name: &str, kind: ExchangeKind) -> Result<(), BusError> {
    let declare = async || {
        let channel = connection.channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = channel.exchange_declare(name.into(), kind.clone(), options, FieldTable::default());
        reply("exchange", declared).await
    };
    match declare().await {
        Err(error) if error.is_other_kind() => {
            let channel = connection.channel().await?;
            reply("delete", channel.exchange_delete(name.into(), ExchangeDeleteOptions::default())).await?;
            tracing::warn!(
                exchange = name, %error,
                "Event bus: exchange {name} had another type and is declared again: {error}"
            );
            declare().await
        }
        // A user with fewer rights than it should have may publish nevertheless.
        Err(error) if error.is_reply(ACCESS_REFUSED) => exchange(connection, name, kind.clone()).await,
        declared => declared,
    }
}

/// Declares an exchange, on a channel of its own because the broker closes the channel of a declaration that fails.
async fn exchange(connection: &BrokerConnection, name: &str, kind: ExchangeKind) -> Result<(), BusError> {
    let declare = async |passive| {
        let channel = connection.channel().await?;
        let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
        let declared = channel.exchange_declare(name.into(), kind.clone(), options, FieldTable::default());
        reply("exchange", declared).await
    };
    match declare(true).await {
        // A passive declaration needs no permission; a real one does.
        Err(error) if error.is_reply(NOT_FOUND) => declare(false).await,
        other => other,
    }
}

async fn queue(
    connection: &BrokerConnection,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<(), BusError> {
    let channel = connection.channel().await?;
    reply("queue", channel.queue_declare(name.into(), options, arguments)).await.map(drop)
}

async fn bind(connection: &BrokerConnection, queue: &str, exchange: &str, keys: &[String]) -> Result<(), BusError> {
    let channel = connection.channel().await?;
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

/// Returns the arguments of a server's queue. After a change of any of them every file server deletes its queue once, see
/// [`declare_server`].
fn server_arguments() -> FieldTable {
    const EIGHT_DAYS_MS: i64 = 8 * 24 * 3600 * 1000;
    let mut arguments = bounded(100_000, 256 << 20);
    // RabbitMQ 4.x has this limit by default, 3.x has none.
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(20));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(DEAD_LETTERS.into()));
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(EIGHT_DAYS_MS));
    arguments
}

fn dead_arguments() -> FieldTable {
    bounded(10_000, 64 << 20)
}

/// Returns the arguments of a quorum queue that drops its oldest message at its bounds.
fn bounded(messages: i64, bytes: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(messages));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes));
    arguments
}
