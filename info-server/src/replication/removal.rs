//! The removal of a file from the catalogue and from every server.

use jiff::Timestamp;
use wire::{
    FileId,
    event::{EventPayload, Stream},
};

use crate::{
    catalogue,
    db::{self, Write},
    events::outbox,
    replication::store::assignments,
};

/// Removes a file and announces that to every server; returns the event's number, or `None` when it was removed already.
///
/// # Errors
/// The database's.
pub async fn remove_file(write: &mut Write, id: FileId, now: Timestamp) -> db::Result<Option<u64>> {
    if !catalogue::store::mark_deleting(write, id).await? {
        return Ok(None);
    }
    announce(write, id, now).await.map(Some)
}

/// Removes an upload that was announced before `before`, as [`remove_file`] does. A file that was published meanwhile is left
/// alone.
///
/// # Errors
/// The database's.
pub async fn remove_upload(
    write: &mut Write,
    id: FileId,
    before: Timestamp,
    now: Timestamp,
) -> db::Result<Option<u64>> {
    if !catalogue::store::mark_upload_deleting(write, id, before).await? {
        return Ok(None);
    }
    announce(write, id, now).await.map(Some)
}

/// Ends the assignments of a file that was marked, and announces its removal; returns the event's number.
async fn announce(write: &mut Write, id: FileId, now: Timestamp) -> db::Result<u64> {
    assignments::forget(write, id).await?;
    let seq = outbox::append(write, &Stream::All, &EventPayload::FileDeleted { file: id }, now).await?;
    catalogue::store::note_deletion(write, id, seq).await?;
    Ok(seq)
}
