//! Stored files without a record, as after the loss of the database: their chunks are compared with the manifests of the
//! info-server and recorded again, so that no intact byte is fetched or lost.

use std::{sync::Arc, time::Duration};

use chunk_store::{Adoption, BlobError, UnrecordedBlob};
use info_client::InfoError;
use lifecycle::Shutdown;
use wire::{
    ChunkLayout,
    server::{MAX_RECONCILE, ReconcileAnswer, ReconcileRequest},
};

use crate::state::AppState;

/// Pause after a round in which some files could not be decided about.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Records stored files again until there are none without a record, then waits for `shutdown`.
pub(crate) async fn record_stored_files(state: Arc<AppState>, shutdown: Shutdown) -> anyhow::Result<()> {
    let finishing = shutdown.finishing();
    let mut failing = false;
    while !finishing.is_cancelled() {
        let round = async {
            if !state.blobs.unrecorded().await?.is_empty() {
                state.until_registered().await;
            }
            record_round(&state).await
        };
        let recorded = tokio::select! {
            recorded = round => recorded,
            () = finishing.cancelled() => break,
        };
        match recorded {
            Ok(()) => {
                state.damage_notes.end_rebuild()?;
                finishing.cancelled().await;
            }
            Err(error) => {
                // Once per outage: the info-server may be away for long.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "Stored files without a record cannot be recorded yet; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = finishing.cancelled() => {}
                }
            }
        }
    }
    Ok(())
}

/// Decides about every file without a record.
async fn record_round(state: &AppState) -> Result<(), RebuildError> {
    for blobs in state.blobs.unrecorded().await?.chunks(MAX_RECONCILE) {
        let question = ReconcileRequest { files: blobs.iter().map(|blob| blob.id).collect() };
        let answer = state.info.reconcile(&question).await?;
        for blob in blobs {
            record(state, *blob, &answer).await?;
        }
    }
    Ok(())
}

async fn record(state: &AppState, blob: UnrecordedBlob, answer: &ReconcileAnswer) -> Result<(), RebuildError> {
    let UnrecordedBlob { id, size, complete } = blob;
    if answer.delete.contains(&id) {
        state.blobs.remove_unrecorded(id).await;
        return Ok(());
    }
    let adoption = if answer.unknown.contains(&id) {
        if !complete {
            tracing::warn!(file = %id, "The catalogue does not have file {id}, and nothing tells which parts of it are stored: removing them");
            state.blobs.remove_unrecorded(id).await;
            return Ok(());
        }
        let Ok(layout) = ChunkLayout::of(size) else {
            state.blobs.leave_unrecorded(id);
            return Ok(());
        };
        state.blobs.record_orphan(id, layout).await?
    } else {
        let manifest = match state.info.manifest(id).await {
            Ok(manifest) => manifest,
            Err(error) if error.http_status().is_some_and(|status| status < 500) => {
                leave(state, blob, &error.to_string()).await;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match manifest.check() {
            // Bytes of an upload that was not committed: only its publisher has their digests.
            Ok(_) if complete && manifest.chunks.contains(&None) => {
                leave(state, blob, "the catalogue does not have all its digests yet").await;
                return Ok(());
            }
            Ok(layout) if layout.size() == size => state.blobs.adopt(id, layout, &manifest.chunks).await?,
            Ok(_) | Err(_) => {
                leave(state, blob, "its size is not that in the catalogue").await;
                return Ok(());
            }
        }
    };
    match adoption {
        Some(Adoption { recorded, missing }) => {
            tracing::info!(file = %id, recorded, missing, "Recorded file {id} again from its stored bytes");
        }
        None => state.blobs.leave_unrecorded(id),
    }
    Ok(())
}

/// Leaves a complete blob that cannot be compared where it is, and removes a partial one, which is worth nothing: an upload
/// that goes on sends it again.
async fn leave(state: &AppState, blob: UnrecordedBlob, reason: &str) {
    let id = blob.id;
    if blob.complete {
        tracing::warn!(file = %id, reason, "File {id} has no record and cannot be compared with its manifest: leaving it alone");
        state.blobs.leave_unrecorded(id);
    } else {
        state.blobs.remove_unrecorded(id).await;
    }
}
