//! The info-server's event log, as a file server reads it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use wire::{event::LogHeader, id::Epoch};

use crate::BusError;

/// Position up to which a file server has read the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Epoch that `seq` belongs to; `None` before the first event.
    pub epoch: Option<Epoch>,
    /// Number up to which all events of the server's streams were applied.
    pub seq: u64,
    /// Highest number received in any stream. A log that ends below it was restored from a backup.
    pub seen: u64,
}

/// Part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// Kind of the lines and position that they reach.
    pub header: LogHeader,
    /// Serialised events (`wire::event::Event`), one in each element.
    pub lines: Vec<Bytes>,
}

/// Log of the streams of one file server: `GET /v1/servers/{id}/events`.
#[async_trait]
pub trait EventLog: std::fmt::Debug + Send + Sync {
    /// Returns the events after `position`, or a snapshot if they were trimmed. Waits up to `wait` for the first event;
    /// an answer without events is no error. The implementation bounds the size of its answer.
    ///
    /// # Errors
    /// [`BusError::Log`]: the log cannot be read at the moment; the caller tries again.
    async fn after(&self, position: Position, wait: Duration) -> Result<LogBatch, BusError>;
}
