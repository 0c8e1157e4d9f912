//! The backend on RabbitMQ.
//!
//! Only this module and its submodules use lapin; tests use it as a client of the broker that is not ours. lapin's own recovery
//! stays off: each side supervises one connection and replaces it whenever anything fails, because a consumer whose channel the
//! broker closed may wait for ever.

mod address;
mod broker;
mod connection;
mod consume;
mod dial;
mod publish;
mod settle;
mod topology;
mod unconfirmed_keys;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use wire::ServerId;

pub use self::broker::ReadUrl;
use self::{broker::Broker, connection::BrokerConnection, consume::QueueConsumer, publish::Publisher};
use crate::{BusError, BusState, EventBus, Handler, Outbound, Phase, Receipt, Subscription, state::State};

/// Bus on RabbitMQ. Publishing and consuming use a connection each, because the broker blocks a publishing connection
/// when it is short of disk or memory.
#[derive(Debug)]
pub struct Amqp {
    broker: Broker,
    publisher: Publisher,
    subscribed: State,
}

impl Amqp {
    /// Creates a bus on the broker at `uri` (`amqp[s]://user:password@host:port/vhost`), without connecting. Several addresses, with
    /// commas between, are the nodes of one broker: the first that answers is used.
    ///
    /// # Errors
    /// [`BusError::Address`].
    pub fn new(uri: &str) -> Result<Self, BusError> {
        Ok(Self::on(Broker::new(uri, None)?))
    }

    /// Creates a bus as [`Self::new`], which calls `read` before each connection: the password may have changed.
    ///
    /// # Errors
    /// [`BusError::Address`].
    pub fn reading(uri: &str, read: ReadUrl) -> Result<Self, BusError> {
        Ok(Self::on(Broker::new(uri, Some(read))?))
    }

    fn on(broker: Broker) -> Self {
        Self { broker, publisher: Publisher::new(), subscribed: State::new(Phase::Idle) }
    }

    /// Checks that the broker can be reached and accepts the log-in.
    ///
    /// # Errors
    /// The broker's.
    pub async fn check(&self) -> Result<(), BusError> {
        BrokerConnection::open(&self.broker, "ddm check").await?.close().await;
        Ok(())
    }

    /// Deletes the queue of a server that has left for good. If the server returns, it declares the queue again and
    /// reads the events it missed from the log. Returns false if there is no such queue.
    ///
    /// # Errors
    /// The broker's.
    pub async fn delete_queue(&self, server: &ServerId) -> Result<bool, BusError> {
        let connection = BrokerConnection::open(&self.broker, "ddm operator").await?;
        let name = topology::server_queue(server);
        let deleted = match topology::exists(&connection, &name).await {
            Ok(true) => topology::delete(&connection, &name).await.map(|()| true),
            other => other,
        };
        connection.close().await;
        deleted
    }
}

#[async_trait]
impl EventBus for Amqp {
    async fn run(&self, shutdown: CancellationToken) {
        self.publisher.run(&self.broker, &shutdown).await;
    }

    async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError> {
        self.publisher.publish(batch).await
    }

    async fn delete_stalled_queues(&self, servers: &[ServerId]) -> Result<usize, BusError> {
        self.publisher.delete_stalled_queues(&self.broker, servers).await
    }

    async fn subscribe(
        &self,
        subscription: &Subscription,
        handler: &dyn Handler,
        shutdown: &CancellationToken,
    ) -> Result<(), BusError> {
        QueueConsumer { broker: &self.broker, subscription, handler, state: &self.subscribed }.run(shutdown).await;
        Ok(())
    }

    fn publishing(&self) -> watch::Receiver<BusState> {
        self.publisher.state()
    }

    fn subscribed(&self) -> watch::Receiver<BusState> {
        self.subscribed.subscribe()
    }
}

impl From<lapin::Error> for BusError {
    fn from(error: lapin::Error) -> Self {
        let code = match error.kind() {
            lapin::ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
            _ => None,
        };
        Self::Broker { code, text: error.to_string() }
    }
}
