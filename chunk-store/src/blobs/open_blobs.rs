//! The blobs that are open, each once, up to a bound.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use wire::FileId;

use crate::Blob;

/// The open blobs.
#[derive(Debug)]
pub(crate) struct OpenBlobs {
    blobs: Mutex<HashMap<FileId, OpenBlob>>,
    max_open: usize,
    uses: AtomicU64,
}

#[derive(Debug)]
struct OpenBlob {
    blob: Arc<Blob>,
    /// Number of the last use; the lowest one is closed first.
    last_use: u64,
}

impl OpenBlobs {
    pub(crate) fn new(max_open: usize) -> Self {
        Self { blobs: Mutex::default(), max_open, uses: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, id: FileId) -> Option<Arc<Blob>> {
        let mut blobs = self.lock();
        let open = blobs.get_mut(&id)?;
        open.last_use = self.uses.fetch_add(1, Ordering::Relaxed);
        Some(open.blob.clone())
    }

    /// Adds a blob, in place of an idle one when the bound is reached.
    pub(crate) fn insert(&self, blob: Arc<Blob>) {
        let mut blobs = self.lock();
        if blobs.len() >= self.max_open {
            close_idle(&mut blobs);
        }
        let last_use = self.uses.fetch_add(1, Ordering::Relaxed);
        blobs.insert(blob.id(), OpenBlob { blob, last_use });
    }

    pub(crate) fn remove(&self, id: FileId) -> Option<Arc<Blob>> {
        self.lock().remove(&id).map(|open| open.blob)
    }

    /// Returns all open blobs.
    pub(crate) fn all(&self) -> Vec<Arc<Blob>> {
        self.lock().values().map(|open| open.blob.clone()).collect()
    }

    /// Closes an idle blob; false when there is none.
    pub(crate) fn close_idle(&self) -> bool {
        close_idle(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, OpenBlob>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the least recently used blob that is not in use. While all are in use, the connections are the bound.
fn close_idle(blobs: &mut HashMap<FileId, OpenBlob>) -> bool {
    let idle = blobs.iter().filter(|(_, open)| Arc::strong_count(&open.blob) == 1);
    let oldest = idle.min_by_key(|(_, open)| open.last_use).map(|(id, _)| *id);
    oldest.is_some_and(|id| blobs.remove(&id).is_some())
}
