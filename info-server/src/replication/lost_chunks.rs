//! Chunks that no file server holds any more: kept with the file, so that lists, metrics and `/readyz` name them without a look at
//! every replica, and reported once per change.

use jiff::Timestamp;
use serde_json::json;
use wire::{ChunkSet, FileId};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    catalogue,
    db::{self, Write},
};

/// Chunks of a file that no server holds any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostChunks {
    /// Chunks on record.
    pub(crate) recorded: ChunkSet,
    /// Chunks that the reports of all servers give now.
    pub(crate) found: ChunkSet,
}

/// Stores the lost chunks of a file and appends an audit entry.
///
/// # Errors
/// The database's.
pub(crate) async fn record(write: &mut Write, file: FileId, lost: &LostChunks, now: Timestamp) -> db::Result<()> {
    catalogue::store::set_lost_chunks(write, file, &lost.found).await?;
    let detail = json!({ "lost": lost.found, "before": lost.recorded });
    let entry = AuditEntry::new(AuditKind::ChunksLost).about(file).with(detail);
    audit::record(write, &[entry], now).await
}

/// Logs a change that was committed.
pub(crate) fn log(file: FileId, lost: &LostChunks) {
    let (chunks, count) = (lost.found.describe(), lost.found.len());
    if count > 0 {
        tracing::error!(
            %file, chunks, count,
            "Chunks of file {file} are on no file server any more: {chunks}. Bring back a server or a disk that held them, or remove \
             the file and publish it again"
        );
    } else {
        tracing::info!(%file, "Every chunk of file {file} is on a file server again");
    }
}
