//! Removal of blobs that were dropped. Their records are gone by then and the decision is not repeated, so a removal that
//! fails is tried until it succeeds; removals that a stop leaves are found by the next start.

use std::{sync::Arc, time::Duration};

use lifecycle::Shutdown;
use wire::FileId;

use crate::{BlobError, BlobStore, run_blocking};

/// Time between two tries to remove a blob.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

impl BlobStore {
    /// Removes blobs whose records are gone already; those that cannot be removed now are left to [`Self::retry_removals`].
    pub async fn remove(&self, dropped: Vec<FileId>) {
        for id in dropped {
            if let Err(error) = self.try_remove(id).await {
                tracing::error!(file = %id, %error, "File {id} could not be removed; trying again");
                self.removals().add(id);
            }
        }
        self.events().notify_changed();
    }

    /// Removes the bytes of a file whose record could not be removed, as the volume has no space for that. An explicit decision
    /// must stand behind it that is repeated: the record goes later.
    ///
    /// # Errors
    /// When the bytes cannot be removed.
    pub async fn remove_before_record(&self, id: FileId) -> Result<(), BlobError> {
        let opening = self.lock_opening().await;
        if let Some(blob) = self.open_blobs().remove(id) {
            blob.mark_lost();
        }
        let directory = self.directory().clone();
        let removed = run_blocking(move || {
            let _opening = opening;
            directory.remove(id)
        });
        if removed.await? {
            tracing::info!(file = %id, "Removed file {id} before its record, as the volume is full");
        }
        Ok(())
    }

    /// Tries failed removals again, until `shutdown`.
    ///
    /// # Errors
    /// Never; the signature is that of a background task.
    pub async fn retry_removals(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let removals = self.removals();
        loop {
            let left = removals.all();
            tokio::select! {
                () = removals.added(), if left.is_empty() => {}
                () = tokio::time::sleep(RETRY_INTERVAL), if !left.is_empty() => {}
                () = finishing.cancelled() => return Ok(()),
            }
            for id in left {
                match self.try_remove(id).await {
                    Ok(()) => removals.remove(id),
                    Err(error) => tracing::debug!(file = %id, %error, "File {id} still could not be removed"),
                }
            }
        }
    }

    async fn try_remove(&self, id: FileId) -> Result<(), BlobError> {
        let opening = self.lock_opening().await;
        if self.records().file(id).await?.is_some() {
            // It was made anew meanwhile; the old bytes were replaced, or go when the new ones are complete.
            return Ok(());
        }
        if let Some(blob) = self.open_blobs().remove(id) {
            blob.mark_deleted();
        }
        let directory = self.directory().clone();
        let removed = run_blocking(move || {
            let _opening = opening;
            directory.remove(id)
        });
        if removed.await? {
            tracing::info!(file = %id, "Removed file {id}");
        }
        Ok(())
    }
}
