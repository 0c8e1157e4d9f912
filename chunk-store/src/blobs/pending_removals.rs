//! Blobs whose removal failed.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::FileId;

/// Blobs whose removal failed and is to be tried again.
#[derive(Debug, Default)]
pub(crate) struct PendingRemovals {
    files: Mutex<BTreeSet<FileId>>,
    added: Notify,
}

impl PendingRemovals {
    pub(super) fn add(&self, id: FileId) {
        self.lock().insert(id);
        self.added.notify_one();
    }

    pub(super) fn all(&self) -> Vec<FileId> {
        self.lock().iter().copied().collect()
    }

    pub(super) fn remove(&self, id: FileId) {
        self.lock().remove(&id);
    }

    /// Waits until a blob is added.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<FileId>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
