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
    assignments::forget(write, id).await?;
    let seq = outbox::append(write, &Stream::All, &EventPayload::FileDeleted { file: id }, now).await?;
    catalogue::store::note_deletion(write, id, seq).await?;
    Ok(Some(seq))
}
