//! All blobs of one owner: found, made, opened and closed here.

use std::{fs::File, io, sync::Arc};

use lifecycle::data_folder::FolderReplaced;
use tokio::sync::{MutexGuard, OwnedMutexGuard};
use wire::{ChunkIndex, ChunkLayout, FileId};

use super::{
    chunk_writer::ChunkWriter,
    commit_queue::{CommitQueue, CommitSender},
    open_blobs::OpenBlobs,
    pending_removals::PendingRemovals,
    recovery::recover,
};
use crate::{
    Allocation, Blob, BlobDirectory, BlobError, ChunkRecords, ReplicaEvents, ScrubQueue, StoreMetrics, VolumeHealth,
    disk::DiskPermits,
    integrity::{chunk_checks::ChunkChecks, recent_commits::RecentCommits, unrecorded_blobs::UnrecordedBlobs},
    run_blocking,
};

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Counters of the store.
    pub metrics: StoreMetrics,
    /// Blobs kept open between requests.
    pub max_open_blobs: usize,
    /// Set after the loss of records: partial blobs without one are kept until the owner has adopted them.
    pub keep_unrecorded: bool,
}

/// The blobs of one owner.
#[derive(Debug)]
pub struct BlobStore {
    directory: Arc<BlobDirectory>,
    records: Arc<dyn ChunkRecords>,
    metrics: StoreMetrics,
    open: OpenBlobs,
    removals: PendingRemovals,
    /// Held while a blob is opened, made or removed: no file has two blobs in memory.
    opening: Arc<tokio::sync::Mutex<()>>,
    /// Held while chunks are committed, and while they are withdrawn: the two must not mix.
    accounting: tokio::sync::Mutex<()>,
    commits: CommitSender,
    scrub_queue: ScrubQueue,
    chunk_checks: ChunkChecks,
    recent_commits: RecentCommits,
    unrecorded: UnrecordedBlobs,
    events: ReplicaEvents,
    volume: Arc<VolumeHealth>,
    disk: DiskPermits,
}

impl BlobStore {
    /// Opens the store: brings the directory in step with the records. [`Self::run_commits`] must work off the returned queue.
    ///
    /// # Errors
    /// When the directory or the records cannot be read or written.
    pub async fn open(
        directory: BlobDirectory,
        records: Arc<dyn ChunkRecords>,
        options: StoreOptions,
    ) -> Result<(Arc<Self>, CommitQueue), BlobError> {
        let directory = Arc::new(directory);
        let unrecorded = recover(&directory, &*records, options.keep_unrecorded).await?;
        let (commits, queue) = CommitQueue::new();
        let store = Self {
            volume: Arc::new(VolumeHealth::new(directory.clone())),
            directory,
            records,
            metrics: options.metrics,
            open: OpenBlobs::new(options.max_open_blobs),
            removals: PendingRemovals::default(),
            opening: Arc::default(),
            accounting: tokio::sync::Mutex::default(),
            commits,
            scrub_queue: ScrubQueue::default(),
            chunk_checks: ChunkChecks::default(),
            recent_commits: RecentCommits::new(),
            unrecorded: UnrecordedBlobs::new(unrecorded),
            events: ReplicaEvents::default(),
            disk: DiskPermits::default(),
        };
        Ok((Arc::new(store), queue))
    }

    /// Returns the blob of a file; `None` when nothing of it is stored, or it is withheld.
    ///
    /// # Errors
    /// When the blob cannot be opened, or its record cannot be read.
    pub async fn find(&self, id: FileId) -> Result<Option<Arc<Blob>>, BlobError> {
        if let Some(blob) = self.open.get(id) {
            return Ok(Some(blob));
        }
        let _opening = self.opening.lock().await;
        self.load(id).await
    }

    /// Returns the blob of a file if it is open: nothing is read for it.
    pub fn find_open(&self, id: FileId) -> Option<Arc<Blob>> {
        self.open.get(id)
    }

    /// Returns the blob of a file; makes it, with space for all of it, when there is none.
    ///
    /// # Errors
    /// See [`Self::find_or_create_with`].
    pub async fn find_or_create(self: &Arc<Self>, id: FileId, layout: ChunkLayout) -> Result<Arc<Blob>, BlobError> {
        self.find_or_create_with(id, layout, Allocation::Full).await
    }

    /// Returns the blob of a file; makes it when there is none.
    ///
    /// # Errors
    /// When the file is stored with another layout or without a record, was deleted, is withheld, or when the volume has no
    /// space for it.
    pub async fn find_or_create_with(
        self: &Arc<Self>,
        id: FileId,
        layout: ChunkLayout,
        allocation: Allocation,
    ) -> Result<Arc<Blob>, BlobError> {
        if let Some(blob) = self.open.get(id) {
            return blob.with_layout(layout);
        }
        let opening = self.lock_opening().await;
        if let Some(blob) = self.load(id).await? {
            return blob.with_layout(layout);
        }
        if self.records.is_withheld(id).await? {
            return Err(BlobError::Withheld);
        }
        if self.is_unrecorded(id) {
            return Err(BlobError::Unrecorded);
        }
        // A task of its own: a requester that no longer waits must not leave a file without a record, nor release the lock
        // while the disk still works on the file.
        let store = self.clone();
        let creating = tokio::spawn(async move {
            let _opening = opening;
            store.create(id, layout, allocation).await
        });
        creating.await.map_err(io::Error::other)?
    }

    /// Creates a blob and its record. The caller holds `opening`.
    async fn create(&self, id: FileId, layout: ChunkLayout, allocation: Allocation) -> Result<Arc<Blob>, BlobError> {
        let directory = self.directory.clone();
        let permit = self.disk.write().await?;
        run_blocking(move || {
            let _permit = permit;
            directory.create(id, layout.size(), allocation)
        })
        .await?;
        let added = self.records.add_file(id, layout).await;
        if !matches!(added, Ok(true)) {
            let directory = self.directory.clone();
            let removed = run_blocking(move || directory.remove_partial(id)).await;
            added?;
            removed?;
            return Err(BlobError::Deleted);
        }
        tracing::info!(file = %id, size = layout.size(), "Receiving file {id}");
        if layout.count() == 0 {
            self.complete(id).await;
        }
        self.load(id).await?.ok_or(BlobError::Deleted)
    }

    /// Waits for the right to write a chunk and returns its writer; `None` when the chunk is stored already.
    pub async fn chunk_writer(&self, blob: &Arc<Blob>, chunk: ChunkIndex) -> Option<ChunkWriter> {
        let permit = blob.write_permit(chunk).await;
        (!blob.holds(chunk)).then(|| ChunkWriter::new(permit, self.disk.clone()))
    }

    /// Returns a chunk's writer, or an error while another one has it; `None` when the chunk is stored already.
    pub(super) fn try_chunk_writer(&self, blob: &Arc<Blob>, chunk: ChunkIndex) -> io::Result<Option<ChunkWriter>> {
        let permit = blob.try_write_permit(chunk).ok_or(io::ErrorKind::ResourceBusy)?;
        Ok((!blob.holds(chunk)).then(|| ChunkWriter::new(permit, self.disk.clone())))
    }

    /// Stops serving files whose record withholds them now; their bytes stay.
    pub async fn withhold(&self, files: &[FileId]) {
        let _opening = self.opening.lock().await;
        for id in files {
            self.open.remove(*id);
        }
    }

    /// Checks that the data folder is still that of the start. Nothing may be acknowledged or reported otherwise: it would
    /// not be there after a restart.
    ///
    /// # Errors
    /// When another folder is there, or none.
    pub async fn check_folder(&self) -> Result<(), FolderReplaced> {
        let directory = self.directory.clone();
        // A check that cannot run finds nothing; the step after it fails as well.
        run_blocking(move || Ok(directory.check())).await.unwrap_or(Ok(()))
    }

    /// Returns the events that the owner acts upon.
    pub const fn events(&self) -> &ReplicaEvents {
        &self.events
    }

    /// Returns the health of the volume.
    pub const fn volume(&self) -> &Arc<VolumeHealth> {
        &self.volume
    }

    /// Returns the files that are to be verified soon.
    pub const fn scrub_queue(&self) -> &ScrubQueue {
        &self.scrub_queue
    }

    /// Returns the chunks that were reported as wrong.
    pub const fn chunk_checks(&self) -> &ChunkChecks {
        &self.chunk_checks
    }

    pub(crate) const fn unrecorded_blobs(&self) -> &UnrecordedBlobs {
        &self.unrecorded
    }

    pub(crate) const fn recent_commits(&self) -> &RecentCommits {
        &self.recent_commits
    }

    pub(crate) fn records(&self) -> &dyn ChunkRecords {
        &*self.records
    }

    pub(crate) const fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    pub(crate) const fn directory(&self) -> &Arc<BlobDirectory> {
        &self.directory
    }

    pub(crate) const fn open_blobs(&self) -> &OpenBlobs {
        &self.open
    }

    pub(crate) const fn removals(&self) -> &PendingRemovals {
        &self.removals
    }

    pub(crate) const fn commits(&self) -> &CommitSender {
        &self.commits
    }

    pub(crate) const fn disk(&self) -> &DiskPermits {
        &self.disk
    }

    /// Waits for the right to open, make or remove blobs. A step that changes names on disk takes it along: the step goes on
    /// when its caller no longer waits.
    pub(crate) async fn lock_opening(&self) -> OwnedMutexGuard<()> {
        self.opening.clone().lock_owned().await
    }

    /// Waits for the right to commit or withdraw chunks.
    pub(crate) async fn lock_accounting(&self) -> MutexGuard<'_, ()> {
        self.accounting.lock().await
    }

    /// Moves a complete file to its final place. When that fails the file stays where it is, is served from there, and the
    /// next start tries again.
    pub(crate) async fn complete(&self, id: FileId) {
        let directory = self.directory.clone();
        match run_blocking(move || directory.complete(id)).await {
            Ok(()) => tracing::info!(file = %id, "File {id} is complete"),
            Err(error) => tracing::error!(file = %id, %error, "Complete file {id} could not be moved to its place"),
        }
        self.events.notify_completed();
    }

    /// Opens a blob from its record. The caller holds `opening`.
    async fn load(&self, id: FileId) -> Result<Option<Arc<Blob>>, BlobError> {
        if let Some(blob) = self.open.get(id) {
            return Ok(Some(blob));
        }
        let Some(record) = self.records.file(id).await? else { return Ok(None) };
        if self.records.is_withheld(id).await? {
            return Ok(None);
        }
        let Some(file) = self.open_file(id).await? else {
            self.scrub_queue.push(id);
            return Ok(None);
        };
        let blob = Arc::new(Blob::new(record, file));
        self.open.insert(blob.clone());
        Ok(Some(blob))
    }

    /// Opens a blob's file; when no descriptor is left, once more after an idle blob was closed.
    async fn open_file(&self, id: FileId) -> io::Result<Option<File>> {
        let directory = self.directory.clone();
        let opened = run_blocking(move || directory.open(id)).await;
        let exhausted = opened.as_ref().is_err_and(lifecycle::descriptors::exhausted);
        if !exhausted || !self.open.close_idle() {
            return opened;
        }
        let directory = self.directory.clone();
        run_blocking(move || directory.open(id)).await
    }
}
