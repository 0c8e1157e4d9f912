//! The info-server's event log, as the bus reads it.

use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, EventLog, LogBatch, Position};
use info_client::{FileServerClient, LogPage, LogPosition};

/// Event log of the info-server as a bus without a broker reads it.
#[derive(Debug)]
pub(crate) struct InfoEventLog(pub(crate) FileServerClient);

#[async_trait]
impl EventLog for InfoEventLog {
    async fn after(&self, position: Position, wait: Duration) -> Result<LogBatch, BusError> {
        read(&self.0, position, wait).await
    }
}

/// Reads one page of the log after `position`.
pub(crate) async fn read(info: &FileServerClient, position: Position, wait: Duration) -> Result<LogBatch, BusError> {
    let Position { epoch, seq, seen } = position;
    let page = info.read_log(LogPosition { epoch, seq, seen }, wait).await;
    let LogPage { header, lines } = page.map_err(|error| BusError::Log(Box::new(error)))?;
    Ok(LogBatch { header, lines })
}
