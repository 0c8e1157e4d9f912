//! Replicas on disk. A blob is one preallocated file in `partial/`, renamed into `files/` once it is complete; its verified
//! chunks are served meanwhile.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use wire::{FileId, Layout};

use crate::{
    metrics::Metrics,
    store::{Store, StoreError},
    volume::Volume,
};

mod blob;
mod body;
mod commit;
mod damage;
mod folder;
mod incoming;
mod intake;
mod readback;
mod recover;
mod remove;
mod upload;

pub(crate) use blob::Blob;
pub(crate) use body::{RangeBody, Segment};
pub(crate) use commit::Queue;
pub(crate) use damage::Suspects;
pub(crate) use folder::{Folder, InUse, Room};
pub(crate) use incoming::{Arrived, Incoming};
pub(crate) use upload::Received;

/// Verified chunks that may wait for the next sync.
const QUEUE: usize = 1024;
/// Threads that may wait for the disk to write, and to read: the pool's other threads stay free when it stalls.
const WRITERS: usize = 64;
const READERS: usize = 128;
/// How long a disk may take for one step before it counts as stalled.
pub(crate) const DISK: Duration = Duration::from_secs(10);

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
    #[error("the catalogue did not know the file when it was asked")]
    Unknown,
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("the bytes could not be synced")]
    Unsynced,
    #[error("the disk did not answer in time")]
    Hung,
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

    /// Whether there was no descriptor left to open a file with: that passes.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Self::Disk(error) => lifecycle::descriptors::exhausted(error),
            Self::Store(error) => error.is_exhausted(),
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
    /// Something may be missing here that should be fetched.
    pub(crate) wanting: Notify,
    /// What is to be looked into.
    pub(crate) suspects: Suspects,
    /// Held while chunks come to count, and while they are taken back: the two must not mix.
    settling: tokio::sync::Mutex<()>,
    /// How the volume was found.
    pub(crate) volume: watch::Sender<Volume>,
    /// One probe of the disk at a time: a stalled disk must not collect waiting threads.
    probing: Arc<tokio::sync::Mutex<()>>,
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
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
            wanting: Notify::new(),
            suspects: Suspects::default(),
            settling: tokio::sync::Mutex::default(),
            volume: watch::Sender::new(Volume::Well),
            probing: Arc::default(),
            writers: Arc::new(Semaphore::new(WRITERS)),
            readers: Arc::new(Semaphore::new(READERS)),
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

    /// The blob of a file that is being uploaded; made when there is none, with room for all of it.
    pub(crate) async fn find_or_make(&self, id: FileId, layout: Layout) -> Result<Arc<Blob>, BlobError> {
        self.find_or_make_with(id, layout, Room::ForAll).await
    }

    /// The blob of a file; made when there is none.
    pub(crate) async fn find_or_make_with(
        &self,
        id: FileId,
        layout: Layout,
        room: Room,
    ) -> Result<Arc<Blob>, BlobError> {
        if let Some(blob) = self.opened(id) {
            return blob.checked(layout);
        }
        let _changing = self.changing.lock().await;
        if let Some(blob) = self.load(id).await? {
            return blob.checked(layout);
        }
        if self.store.is_unknown(id).await? {
            return Err(BlobError::Unknown);
        }
        let folder = self.folder.clone();
        let writer = self.writer().await?;
        blocking(move || {
            let _writer = writer;
            folder.make(id, layout.size(), room)
        })
        .await?;
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

    /// Stops serving files whose standing the database has changed; their bytes stay.
    pub(crate) async fn set_aside(&self, files: &[FileId]) {
        let _changing = self.changing.lock().await;
        let mut table = self.table();
        for id in files {
            table.remove(id);
        }
    }

    /// The catalogue may know files again: they are to be reported, and read back if that was not done.
    pub(crate) fn reconciled(&self) {
        self.completed.notify_one();
        self.changed.notify_one();
    }

    /// The folders.
    pub(crate) const fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Whether the disk takes writes.
    ///
    /// # Errors
    /// With what it answers, and when it does not within `patience`.
    pub(crate) async fn probe(&self, patience: Duration) -> Result<(), BlobError> {
        let probe = async {
            let turn = self.probing.clone().lock_owned().await;
            let folder = self.folder.clone();
            let probed = blocking(move || {
                let probed = folder.probe();
                drop(turn);
                probed
            });
            Ok(probed.await?)
        };
        tokio::time::timeout(patience, probe).await.unwrap_or(Err(BlobError::Hung))
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
        if self.store.is_unknown(id).await? {
            return Ok(None);
        }
        let Some(file) = self.open_file(id).await? else {
            self.suspects.add(id);
            return Ok(None);
        };
        let blob = Arc::new(Blob::new(row, file));
        let mut table = self.table();
        if table.len() >= self.most_open {
            close_one(&mut table);
        }
        table.insert(id, Open { blob: blob.clone(), used: self.uses.fetch_add(1, Ordering::Relaxed) });
        Ok(Some(blob))
    }

    /// Opens a blob's file; when no descriptor is left, once more after a blob that nobody works with was closed.
    async fn open_file(&self, id: FileId) -> io::Result<Option<File>> {
        let folder = self.folder.clone();
        let opened = blocking(move || folder.open(id)).await;
        let exhausted = opened.as_ref().is_err_and(lifecycle::descriptors::exhausted);
        if !exhausted || !close_one(&mut self.table()) {
            return opened;
        }
        let folder = self.folder.clone();
        blocking(move || folder.open(id)).await
    }

    /// A turn to wait for the disk with something to write. It travels with the work.
    async fn writer(&self) -> Result<OwnedSemaphorePermit, BlobError> {
        in_time(async { self.writers.clone().acquire_owned().await.map_err(|_| BlobError::Hung) }).await
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

/// Closes the blob that was not used for the longest time, if there is one that nobody works with; with all in use the
/// connections are the bound.
fn close_one(table: &mut HashMap<FileId, Open>) -> bool {
    let idle = table.iter().filter(|(_, open)| Arc::strong_count(&open.blob) == 1);
    let oldest = idle.min_by_key(|(_, open)| open.used).map(|(id, _)| *id);
    oldest.is_some_and(|id| table.remove(&id).is_some())
}

/// Gives a step up when the disk stalls. What was begun of it goes on where it blocks nobody.
pub(crate) async fn in_time<T>(step: impl Future<Output = Result<T, BlobError>>) -> Result<T, BlobError> {
    tokio::time::timeout(DISK, step).await.unwrap_or(Err(BlobError::Hung))
}

/// Runs what may wait for a disk where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
