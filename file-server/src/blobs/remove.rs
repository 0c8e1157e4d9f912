//! Removing blobs that an explicit fact dropped. Their rows are gone by then and the facts are not told again, so a removal
//! that fails is tried until it succeeds; what a stop leaves is found by the next start.

use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use lifecycle::Shutdown;
use wire::FileId;

use super::{BlobError, Blobs, blocking};

/// Between two tries to remove what could not be removed.
const AGAIN: Duration = Duration::from_secs(3);

impl Blobs {
    /// Removes blobs whose rows are gone already; those that cannot be removed now are left to [`Blobs::keep_removing`].
    pub(crate) async fn remove(&self, dropped: Vec<FileId>) {
        for id in dropped {
            if let Err(error) = self.try_remove(id).await {
                tracing::error!(file = %id, %error, "a replica could not be removed; trying again");
                self.unremoved().insert(id);
                self.removal_failed.notify_one();
            }
        }
        self.changed.notify_one();
    }

    /// Tries again to remove what could not be removed, until `shutdown`.
    pub(crate) async fn keep_removing(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        loop {
            let left: Vec<FileId> = self.unremoved().iter().copied().collect();
            tokio::select! {
                () = self.removal_failed.notified(), if left.is_empty() => {}
                () = tokio::time::sleep(AGAIN), if !left.is_empty() => {}
                () = finishing.cancelled() => return Ok(()),
            }
            for id in left {
                match self.try_remove(id).await {
                    Ok(()) => drop(self.unremoved().remove(&id)),
                    Err(error) => tracing::debug!(file = %id, %error, "a replica still could not be removed"),
                }
            }
        }
    }

    async fn try_remove(&self, id: FileId) -> Result<(), BlobError> {
        let _changing = self.changing.lock().await;
        if self.store.file(id).await?.is_some() {
            // It was assigned and made anew meanwhile; the old bytes were truncated, or go when the new ones are complete.
            return Ok(());
        }
        if let Some(open) = self.table().remove(&id) {
            open.blob.mark_deleted();
        }
        let folder = self.folder.clone();
        if blocking(move || folder.remove(id)).await? {
            tracing::info!(file = %id, "removed a replica");
        }
        Ok(())
    }

    fn unremoved(&self) -> MutexGuard<'_, BTreeSet<FileId>> {
        self.unremoved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
