#![doc = include_str!("../README.md")]

pub mod amqp;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod handler;
mod log;
mod message;
pub mod outbox;
mod pause;
mod state;

pub use amqp::Amqp;
pub use error::BusError;
pub use handler::{Batch, Handler, Position, Verdict};
pub use log::{EventLog, LogBatch};
pub use message::{MAX_BATCH, MAX_BODY, Outbound, Receipt, Subscription};
pub use outbox::Outbox;
pub use state::{BusState, Phase};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::ServerId;

/// The way events travel from the info-server to the file servers.
#[async_trait]
pub trait EventBus: std::fmt::Debug + Send + Sync {
    /// Keeps the publishing side connected until `shutdown`; [`Self::publish`] needs it running. A subscriber does not.
    async fn run(&self, shutdown: CancellationToken);

    /// Publishes messages in order and says of each, in the same order, what became of it.
    ///
    /// # Errors
    /// Nothing may be assumed of any message: the caller tries the whole batch again, duplicates are harmless.
    async fn publish(&self, batch: &[Outbound]) -> Result<Vec<Receipt>, BusError>;

    /// After [`Receipt::HeldUp`]: does away with what may hold up the events of these servers, and answers how many obstacles
    /// there were. Nothing is lost by it that the log does not have.
    ///
    /// # Errors
    /// The transport's; the next call may do better.
    async fn heal(&self, _servers: &[ServerId]) -> Result<usize, BusError> {
        Ok(0)
    }

    /// Hands a file server's events to `handler` until `shutdown`, through every outage. A batch in the handler's hands is
    /// finished and settled first.
    ///
    /// # Errors
    /// [`BusError::NoLog`]; outages are not errors but show in [`Self::subscribed`].
    async fn subscribe(
        &self,
        subscription: &Subscription,
        handler: &dyn Handler,
        shutdown: &CancellationToken,
    ) -> Result<(), BusError>;

    /// The state of the publishing side.
    fn publishing(&self) -> watch::Receiver<BusState>;

    /// The state of the subscription.
    fn subscribed(&self) -> watch::Receiver<BusState>;
}
