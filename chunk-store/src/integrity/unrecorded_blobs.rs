//! Blobs without a record, which a lost database leaves.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use wire::FileId;

/// Blobs that have no record yet.
#[derive(Debug, Default)]
pub(crate) struct UnrecordedBlobs(Mutex<BTreeSet<FileId>>);

impl UnrecordedBlobs {
    pub(crate) fn new(blobs: BTreeSet<FileId>) -> Self {
        Self(Mutex::new(blobs))
    }

    pub(crate) fn contains(&self, id: FileId) -> bool {
        self.lock().contains(&id)
    }

    pub(crate) fn all(&self) -> Vec<FileId> {
        self.lock().iter().copied().collect()
    }

    pub(crate) fn remove(&self, id: FileId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<FileId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
