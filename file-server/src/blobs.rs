//! Replicas on disk. A blob is one preallocated file in `partial/`, renamed into `files/` once it is complete; its verified
//! chunks are served meanwhile.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, mpsc};
use wire::{FileId, Layout};

use crate::{
    metrics::Metrics,
    store::{Store, StoreError},
};

mod blob;
mod body;
mod commit;
mod folder;
mod readback;
mod recover;
mod remove;
mod upload;

pub(crate) use blob::Blob;
pub(crate) use body::{RangeBody, Segment};
pub(crate) use commit::Queue;
pub(crate) use folder::{Folder, InUse};
pub(crate) use upload::Received;

/// Verified chunks that may wait for the next sync.
const QUEUE: usize = 1024;

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("the bytes do not match their digest")]
    Mismatch,
    #[error("the chunk is held with another digest")]
    Conflict,
    #[error("the file is known here with another size")]
    Layout,
    #[error("the body does not have the chunk's {expected} bytes")]
    Length { expected: u64 },
    #[error("the body stopped coming")]
    Stalled,
    #[error("the body broke off")]
    Broken,
    #[error("somebody else is writing this chunk")]
    Busy,
    #[error("the file was deleted")]
    Deleted,
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("the bytes could not be synced")]
    Unsynced,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BlobError {
    /// Whether there was no room left.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Disk(error) => {
                use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
                matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
            }
            Self::Store(error) => error.is_full(),
            _ => false,
        }
    }
}

/// The replicas of one server.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: Arc<Folder>,
    store: Store,
    metrics: Arc<Metrics>,
    open: Mutex<HashMap<FileId, Open>>,
    most_open: usize,
    uses: AtomicU64,
    /// Blobs whose removal failed and is to be tried again.
    unremoved: Mutex<BTreeSet<FileId>>,
    /// There is one more of them.
    removal_failed: Notify,
    /// Held while a blob comes into the table or leaves it: no file is ever represented twice.
    changing: tokio::sync::Mutex<()>,
    commits: mpsc::Sender<commit::Verified>,
    /// Something is to be reported.
    pub(crate) changed: Notify,
    /// A file is complete and has not been read back.
    completed: Notify,
}

#[derive(Debug)]
struct Open {
    blob: Arc<Blob>,
    used: u64,
}

impl Blobs {
    /// Brings the folders in step with the database, and answers the queue that [`Blobs::keep_committing`] works off.
    pub(crate) async fn open(
        folder: Folder,
        store: Store,
        metrics: Arc<Metrics>,
        most_open: usize,
    ) -> Result<(Arc<Self>, Queue), BlobError> {
        let folder = Arc::new(folder);
        recover::recover(&folder, &store).await?;
        let (commits, queue) = mpsc::channel(QUEUE);
        let blobs = Self {
            folder,
            store,
            metrics,
            open: Mutex::default(),
            most_open,
            uses: AtomicU64::new(0),
            unremoved: Mutex::default(),
            removal_failed: Notify::new(),
            changing: tokio::sync::Mutex::default(),
            commits,
            changed: Notify::new(),
            completed: Notify::new(),
        };
        Ok((Arc::new(blobs), Queue(queue)))
    }

    /// The blob of a file, if anything of it is here.
    pub(crate) async fn find(&self, id: FileId) -> Result<Option<Arc<Blob>>, BlobError> {
        if let Some(blob) = self.opened(id) {
            return Ok(Some(blob));
        }
        let _changing = self.changing.lock().await;
        self.load(id).await
    }

    /// The blob of a file that is being uploaded; made when there is none.
    pub(crate) async fn find_or_make(&self, id: FileId, layout: Layout) -> Result<Arc<Blob>, BlobError> {
        if let Some(blob) = self.opened(id) {
            return blob.checked(layout);
        }
        let _changing = self.changing.lock().await;
        if let Some(blob) = self.load(id).await? {
            return blob.checked(layout);
        }
        let folder = self.folder.clone();
        blocking(move || folder.make(id, layout.size())).await?;
        if !self.store.add_file(id, layout).await? {
            let folder = self.folder.clone();
            blocking(move || folder.remove(id).map(drop)).await?;
            return Err(BlobError::Deleted);
        }
        tracing::info!(file = %id, size = layout.size(), "receiving a file");
        if layout.count() == 0 {
            self.finish(id).await;
        }
        self.load(id).await?.ok_or(BlobError::Deleted)
    }

    /// The folders.
    pub(crate) const fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Moves a complete file to its final place. When that fails it stays where it is, is served from there, and the next
    /// start tries again.
    async fn finish(&self, id: FileId) {
        let folder = self.folder.clone();
        match blocking(move || folder.complete(id)).await {
            Ok(()) => tracing::info!(file = %id, "a replica is complete"),
            Err(error) => tracing::error!(file = %id, %error, "a complete replica could not be moved to its place"),
        }
        self.completed.notify_one();
        self.changed.notify_one();
    }

    /// To be called with `changing` held.
    async fn load(&self, id: FileId) -> Result<Option<Arc<Blob>>, BlobError> {
        if let Some(blob) = self.opened(id) {
            return Ok(Some(blob));
        }
        let Some(row) = self.store.file(id).await? else { return Ok(None) };
        let folder = self.folder.clone();
        let Some(file) = blocking(move || folder.open(id)).await? else {
            tracing::error!(file = %id, "a replica's bytes are gone from the disk");
            return Ok(None);
        };
        let blob = Arc::new(Blob::new(row, file));
        let mut table = self.table();
        if table.len() >= self.most_open {
            // Only blobs that nobody works with; with all in use the connections are the bound.
            let idle = table.iter().filter(|(_, open)| Arc::strong_count(&open.blob) == 1);
            if let Some(id) = idle.min_by_key(|(_, open)| open.used).map(|(id, _)| *id) {
                table.remove(&id);
            }
        }
        table.insert(id, Open { blob: blob.clone(), used: self.uses.fetch_add(1, Ordering::Relaxed) });
        Ok(Some(blob))
    }

    fn opened(&self, id: FileId) -> Option<Arc<Blob>> {
        let mut table = self.table();
        let open = table.get_mut(&id)?;
        open.used = self.uses.fetch_add(1, Ordering::Relaxed);
        Some(open.blob.clone())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<FileId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what may wait for a disk where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
