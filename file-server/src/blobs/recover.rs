//! After a start: brings the folders in step with the database. Every step of an upload may have been the last one before
//! a crash.

use std::{collections::HashSet, sync::Arc};

use wire::FileId;

use super::{BlobError, Folder, blocking};
use crate::store::{FileRow, Store};

pub(super) async fn recover(folder: &Arc<Folder>, store: &Store) -> Result<(), BlobError> {
    let rows = store.files().await?;
    let known: HashSet<FileId> = rows.iter().map(|row| row.id).collect();
    for row in rows {
        let (folder, giving) = (folder.clone(), folder.clone());
        let id = row.id;
        let incomplete = row.root.is_none();
        if !blocking(move || settle(&folder, &row)).await? {
            tracing::error!(file = %id, "a replica's bytes are gone from the disk: fetching them again");
            store.lose_file(id).await?;
        } else if incomplete {
            release(&giving, store, id).await?;
        }
    }
    remove_strays(folder, store, &known).await
}

/// Puts a blob where its row says it is. False when its bytes are not there.
fn settle(folder: &Folder, row: &FileRow) -> std::io::Result<bool> {
    let size = Some(row.layout.size());
    match folder.sizes(row.id)? {
        // The crash came between the row and the rename.
        (None, partial) if partial == size && row.root.is_some() => folder.complete(row.id).map(|()| true),
        (complete, _) if complete == size && row.root.is_some() => Ok(true),
        // The crash came between a chunk's quarantine and the move.
        (complete, None) if complete == size => folder.take_back(row.id).map(|()| true),
        (_, partial) if partial == size => Ok(row.root.is_none()),
        _ => Ok(false),
    }
}

/// Gives back the room of chunks that were being received: none of their bytes count. They take it again when they come.
async fn release(folder: &Arc<Folder>, store: &Store, id: FileId) -> Result<(), BlobError> {
    let Some(row) = store.file(id).await? else { return Ok(()) };
    let gaps = row.runs.gaps(0..row.layout.count());
    let bytes: Vec<_> = gaps.iter().map(|run| row.layout.bytes_of_run(run)).collect();
    let folder = folder.clone();
    Ok(blocking(move || folder.release(id, &bytes)).await?)
}

/// A file being received that no row knows was made just before a crash, or dropped just before one. A complete one goes
/// only when the catalogue said so: a lost database must not take the replicas with it.
async fn remove_strays(folder: &Arc<Folder>, store: &Store, known: &HashSet<FileId>) -> Result<(), BlobError> {
    let listing = folder.clone();
    let (partials, completes) = blocking(move || Ok((listing.partials()?, listing.completes()?))).await?;
    let mut strays: Vec<FileId> = partials.into_iter().filter(|id| !known.contains(id)).collect();
    for id in completes.into_iter().filter(|id| !known.contains(id)) {
        if store.is_unwanted(id).await? {
            strays.push(id);
        } else {
            tracing::warn!(file = %id, "a complete file that the database does not know is left alone");
        }
    }
    for id in strays {
        let folder = folder.clone();
        blocking(move || folder.remove(id)).await?;
        tracing::info!(file = %id, "removed what a crash left");
    }
    Ok(())
}
