//! The info-server's log as a file server reads it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use wire::event::LogHeader;

use crate::{BusError, Position};

/// A piece of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// What the lines are and how far they reach.
    pub header: LogHeader,
    /// One serialised `wire::event::Event` each.
    pub lines: Vec<Bytes>,
}

/// The log of the streams that concern one server: `GET /v1/servers/{id}/events`.
#[async_trait]
pub trait EventLog: std::fmt::Debug + Send + Sync {
    /// What comes after `position`, or the present state when that is not to be had. Waits up to `wait` for the first
    /// line; an answer without lines is not an error. The implementation bounds the size of its answer.
    ///
    /// # Errors
    /// [`BusError::Log`]: not to be had now; the caller tries again.
    async fn after(&self, position: Position, wait: Duration) -> Result<LogBatch, BusError>;
}
