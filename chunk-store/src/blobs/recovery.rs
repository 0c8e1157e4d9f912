//! Brings the directory in step with the records after a start. Every step of a write may have been the last one before a
//! crash.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use wire::FileId;

use crate::{BlobDirectory, BlobError, BlobRecord, ChunkRecords, run_blocking};

/// Puts every recorded blob in its place, releases the space of unverified chunks, and removes strays. Returns the blobs
/// without a record that stay: with `keep_unrecorded`, after the loss of records, all of them.
pub(super) async fn recover(
    directory: &Arc<BlobDirectory>,
    records: &dyn ChunkRecords,
    keep_unrecorded: bool,
) -> Result<BTreeSet<FileId>, BlobError> {
    let files = records.files().await?;
    let recorded: HashSet<FileId> = files.iter().map(|record| record.id).collect();
    for record in files {
        let settling = directory.clone();
        let id = record.id;
        let incomplete = record.root.is_none();
        if !run_blocking(move || put_in_place(&settling, &record)).await? {
            tracing::error!(file = %id, "Bytes of file {id} are gone from the disk: fetching them again");
            records.record_loss(id).await?;
        } else if incomplete {
            release_gaps(directory, records, id).await?;
        }
    }
    remove_strays(directory, records, &recorded, keep_unrecorded).await
}

/// Puts a blob where its record says it is. False when its bytes are not there.
fn put_in_place(directory: &BlobDirectory, record: &BlobRecord) -> std::io::Result<bool> {
    let size = Some(record.layout.size());
    let found = directory.sizes(record.id)?;
    match (found.complete, found.partial) {
        // The crash came between the record and the rename.
        (None, partial) if partial == size && record.root.is_some() => directory.complete(record.id).map(|()| true),
        // What was begun beside it would be opened in its place.
        (complete, _) if complete == size && record.root.is_some() => {
            directory.remove_partial(record.id).map(|()| true)
        }
        // The crash came between the withdrawal of a chunk and the move.
        (complete, None) if complete == size => directory.reopen(record.id).map(|()| true),
        (_, partial) if partial == size => Ok(record.root.is_none()),
        _ => Ok(false),
    }
}

/// Releases the space of chunks that were being received: none of their bytes count. They take it again when they come.
async fn release_gaps(directory: &Arc<BlobDirectory>, records: &dyn ChunkRecords, id: FileId) -> Result<(), BlobError> {
    let Some(record) = records.file(id).await? else { return Ok(()) };
    if records.is_withheld(id).await? {
        // Nothing tells which of its bytes count; their owner decides about them.
        return Ok(());
    }
    let gaps = record.chunks.gaps(0..record.layout.count());
    let bytes: Vec<_> = gaps.iter().map(|run| record.layout.bytes_of_run(run)).collect();
    let directory = directory.clone();
    Ok(run_blocking(move || directory.release(id, &bytes)).await?)
}

/// Removes blobs without a record. A partial one was made just before a crash, or dropped just before one. A complete one goes
/// only when it was dropped explicitly: a lost database must not take the files with it.
async fn remove_strays(
    directory: &Arc<BlobDirectory>,
    records: &dyn ChunkRecords,
    recorded: &HashSet<FileId>,
    keep_unrecorded: bool,
) -> Result<BTreeSet<FileId>, BlobError> {
    let listing = directory.clone();
    let (partials, completes) = run_blocking(move || Ok((listing.partials()?, listing.completes()?))).await?;
    let (mut strays, mut kept) = (Vec::new(), BTreeSet::new());
    for id in completes.into_iter().filter(|id| !recorded.contains(id)) {
        if records.is_dropped(id).await? {
            strays.push(id);
        } else {
            kept.insert(id);
        }
    }
    for id in partials.into_iter().filter(|id| !recorded.contains(id)) {
        if kept.contains(&id) {
            // Begun anew although all of it is there: what is complete counts.
            let directory = directory.clone();
            run_blocking(move || directory.remove_partial(id)).await?;
        } else if keep_unrecorded && !records.is_dropped(id).await? {
            kept.insert(id);
        } else {
            strays.push(id);
        }
    }
    for id in strays {
        let directory = directory.clone();
        run_blocking(move || directory.remove(id)).await?;
        tracing::info!(file = %id, "Removed file {id}, which a crash had left");
    }
    if !kept.is_empty() {
        tracing::warn!(files = kept.len(), "Stored files have no record: they are kept, and are to be recorded again");
    }
    Ok(kept)
}
