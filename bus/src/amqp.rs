//! The bus on RabbitMQ.
//!
//! lapin is named nowhere else. Its own recovery stays off: each side supervises one connection and builds it anew from
//! nothing whenever anything about it looks wrong, because a consumer whose channel the broker closed may wait for ever.

mod address;
mod consume;
mod held_up;
mod link;
mod publish;
mod settle;
mod topology;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use wire::ServerId;

use self::{address::Address, link::Link, publish::Publisher};
use crate::{BusError, BusState, EventBus, Handler, Outbound, Phase, Receipt, Subscription, state::State};

/// The bus on RabbitMQ. Publishing and consuming use a connection each: the broker blocks the first when it is short of
/// disk or memory.
#[derive(Debug)]
pub struct Amqp {
    address: Address,
    publisher: Publisher,
    subscribed: State,
}

impl Amqp {
    /// A bus on the broker at `uri` (`amqp[s]://user:password@host:port/vhost`), not connected yet.
    ///
    /// # Errors
    /// [`BusError::Address`].
    pub fn new(uri: &str) -> Result<Self, BusError> {
        Ok(Self { address: Address::parse(uri)?, publisher: Publisher::new(), subscribed: State::new(Phase::Idle) })
    }

    /// Deletes the queue of a server that is gone for good. Should the server come back, it makes the queue anew and reads
    /// from the log what it missed.
    ///
    /// # Errors
    /// The broker's; a queue that does not exist is none.
    pub async fn delete_queue(&self, server: &ServerId) -> Result<(), BusError> {
        let link = Link::open(&self.address, "ddm operator").await?;
        let deleted = topology::delete(&link, &topology::server_queue(server)).await;
        link.close().await;
        deleted
    }
}

#[async_trait]
impl EventBus for Amqp {
    async fn run(&self, shutdown: CancellationToken) {
        self.publisher.run(&self.address, &shutdown).await;
    }

    async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError> {
        self.publisher.publish(batch).await
    }

    async fn heal(&self, servers: &[ServerId]) -> Result<usize, BusError> {
        self.publisher.heal(&self.address, servers).await
    }

    async fn subscribe(
        &self,
        subscription: &Subscription,
        handler: &dyn Handler,
        shutdown: &CancellationToken,
    ) -> Result<(), BusError> {
        consume::run(&self.address, subscription, (handler, &self.subscribed), shutdown).await;
        Ok(())
    }

    fn publishing(&self) -> watch::Receiver<BusState> {
        self.publisher.state()
    }

    fn subscribed(&self) -> watch::Receiver<BusState> {
        self.subscribed.subscribe()
    }
}
