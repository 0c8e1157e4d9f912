//! Files that are to be verified soon, because a read of them failed.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::FileId;

/// Files to verify soon. A set, so bounded by the files that are stored.
#[derive(Debug, Default)]
pub struct ScrubQueue {
    files: Mutex<BTreeSet<FileId>>,
    added: Notify,
}

impl ScrubQueue {
    /// Adds a file.
    pub fn push(&self, id: FileId) {
        self.lock().insert(id);
        self.added.notify_one();
    }

    /// Takes a file out.
    pub fn pop(&self) -> Option<FileId> {
        self.lock().pop_first()
    }

    /// Waits until a file is added.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<FileId>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
