//! Stored files without a record, as after the loss of the database: their chunks are compared with the manifests of the
//! info-server and recorded again, so that no intact byte is fetched or lost.

use std::{sync::Arc, time::Duration};

use chunk_store::{Adoption, BlobError, UnrecordedBlob};
use info_client::InfoError;
use lifecycle::Shutdown;
use wire::{
    ChunkLayout, FileId,
    server::{MAX_RECONCILE, ReconcileAnswer, ReconcileRequest},
};

use crate::state::AppState;

/// Pause after a round in which some files could not be decided about.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Refusals of the info-server that last: it does not have the file, it deleted the file, or the upload was not committed.
/// Another server on the way may send the same statuses without its problem document.
const FINAL_STATUSES: [u16; 3] = [404, 409, 410];

#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error("the manifest of file {0} contradicts itself")]
    Manifest(FileId),
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
            Ok(round) => {
                // Otherwise the next start would remove the partial blobs that were left.
                if !round.left_partial {
                    state.damage_notes.end_rebuild()?;
                }
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

/// Result of a round.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// Set if a partial blob was left without a record.
    left_partial: bool,
}

/// Decides about every file without a record. A file that cannot be decided about holds up no other one.
async fn record_round(state: &AppState) -> Result<Round, RebuildError> {
    let (mut round, mut undecided) = (Round::default(), None);
    for blobs in state.blobs.unrecorded().await?.chunks(MAX_RECONCILE) {
        let question = ReconcileRequest { files: blobs.iter().map(|blob| blob.id).collect() };
        let answer = state.info.reconcile(&question).await?;
        for blob in blobs {
            match record(state, *blob, &answer).await {
                Ok(is_left) => round.left_partial |= is_left && !blob.complete,
                Err(RebuildError::Info(error)) if error.http_status().is_none() => return Err(error.into()),
                Err(error @ RebuildError::Blob(_)) => return Err(error),
                Err(error) => undecided = Some(error),
            }
        }
    }
    undecided.map_or(Ok(round), Err)
}

/// Decides about a file. Returns true if it is left without a record.
async fn record(state: &AppState, blob: UnrecordedBlob, answer: &ReconcileAnswer) -> Result<bool, RebuildError> {
    let UnrecordedBlob { id, size, complete } = blob;
    if answer.delete.contains(&id) {
        state.blobs.remove_unrecorded(id).await;
        return Ok(false);
    }
    let adoption = if answer.unknown.contains(&id) {
        let Ok(layout) = ChunkLayout::of(size) else {
            state.blobs.leave_unrecorded(id);
            return Ok(true);
        };
        state.blobs.record_orphan(id, layout).await?
    } else {
        let manifest = match state.info.manifest(id).await {
            Ok(manifest) => manifest,
            Err(error) if error.status().is_some_and(|status| FINAL_STATUSES.contains(&status)) => {
                return Ok(leave(state, blob, &error).await);
            }
            Err(error) => return Err(error.into()),
        };
        match manifest.check() {
            // Bytes of an upload that was not committed: only its publisher has their digests.
            Ok(_) if complete && manifest.chunks.contains(&None) => {
                return Ok(keep(state, id, "the catalogue does not have all its digests yet"));
            }
            Ok(layout) if layout.size() == size => state.blobs.adopt(id, layout, &manifest.chunks).await?,
            Ok(_) => return Ok(keep(state, id, "its size is not that in the catalogue")),
            Err(_) => return Err(RebuildError::Manifest(id)),
        }
    };
    match adoption {
        Some(Adoption { recorded, missing }) => {
            tracing::info!(file = %id, recorded, missing, "Recorded file {id} again from its stored bytes");
        }
        None => state.blobs.leave_unrecorded(id),
    }
    Ok(adoption.is_none())
}

/// Keeps a blob after a final refusal of its manifest. Only a partial one of a deleted or unfinished upload is removed, which is
/// worth nothing: an upload that goes on sends it again. Returns true if it is kept.
async fn leave(state: &AppState, blob: UnrecordedBlob, refusal: &InfoError) -> bool {
    if blob.complete || refusal.status() == Some(404) {
        return keep(state, blob.id, &refusal.to_string());
    }
    state.blobs.remove_unrecorded(blob.id).await;
    false
}

/// Keeps a blob that cannot be compared, without a record. Returns true.
fn keep(state: &AppState, id: FileId, reason: &str) -> bool {
    tracing::warn!(file = %id, reason, "File {id} has no record and cannot be compared with its manifest: leaving it alone");
    state.blobs.leave_unrecorded(id);
    true
}
