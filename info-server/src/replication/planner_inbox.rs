//! The planner's inbox: files to plan soon, and a wake-up when the servers change.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use wire::FileId;

/// Files that may wait in the inbox; the planner finds further ones by itself.
const MAX_QUEUED_FILES: usize = 10_000;

/// Files to plan out of turn.
#[derive(Debug, Default)]
pub struct PlannerInbox {
    files: Mutex<BTreeSet<FileId>>,
    woken: Notify,
}

impl PlannerInbox {
    /// Asks for a file to be planned soon.
    pub fn push(&self, file: FileId) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() < MAX_QUEUED_FILES {
            files.insert(file);
        }
        drop(files);
        self.woken.notify_one();
    }

    /// Wakes the planner: something changed about the servers.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits until the planner is woken.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Takes up to `max` files.
    pub(crate) fn take(&self, max: usize) -> Vec<FileId> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: BTreeSet<FileId> = files.iter().take(max).copied().collect();
        files.retain(|file| !taken.contains(file));
        taken.into_iter().collect()
    }
}
