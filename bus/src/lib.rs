#![doc = include_str!("../README.md")]

pub mod amqp;
mod backoff;
pub mod conformance;
mod error;
mod handler;
mod log;
pub mod long_poll;
mod message;
mod state;

pub use amqp::{Amqp, ReadUrl};
pub use error::BusError;
pub use handler::{Batch, Handler, Verdict};
pub use log::{EventLog, LogBatch, Position};
pub use long_poll::LongPoll;
pub use message::{MAX_BATCH, MAX_BODY, Outbound, Receipt, Subscription};
pub use state::{BusState, Phase};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::ServerId;

/// Transport of events from the info-server to the file servers.
#[async_trait]
pub trait EventBus: std::fmt::Debug + Send + Sync {
    /// Keeps the publishing side connected until `shutdown`. [`Self::publish`] needs this to run; a subscription does
    /// not.
    async fn run(&self, shutdown: CancellationToken);

    /// Publishes messages in order and returns a receipt for each, in the same order.
    ///
    /// # Errors
    /// The outcome of every message is unknown: the caller publishes the whole batch again. Duplicates are harmless.
    async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError>;

    /// Deletes, after a [`Receipt::Unconfirmed`], the queues of these servers that may hold up their events. Returns
    /// the number of queues deleted. The log has every event that is lost with them.
    ///
    /// # Errors
    /// The transport's; the next call may succeed.
    async fn delete_stalled_queues(&self, _servers: &[ServerId]) -> Result<usize, BusError> {
        Ok(0)
    }

    /// Passes a file server's events to `handler` until `shutdown`, across outages. A batch that the handler has
    /// received is finished and settled first.
    ///
    /// # Errors
    /// [`BusError::NoLog`]. Outages are no errors; they show in [`Self::subscribed`].
    async fn subscribe(
        &self,
        subscription: &Subscription,
        handler: &dyn Handler,
        shutdown: &CancellationToken,
    ) -> Result<(), BusError>;

    /// Returns the state of the publishing side.
    fn publishing(&self) -> watch::Receiver<BusState>;

    /// Returns the state of the subscription.
    fn subscribed(&self) -> watch::Receiver<BusState>;
}
