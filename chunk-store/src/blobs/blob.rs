//! One file on disk, and its chunks that are verified.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;
use wire::{ChunkIndex, ChunkLayout, ChunkSet, Digest, FileId};

use super::directory::Inode;
use crate::{BlobError, BlobRecord, Representation};

mod residency;

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// One stored file.
#[derive(Debug)]
pub struct Blob {
    id: FileId,
    layout: ChunkLayout,
    file: Arc<File>,
    /// Inode of the open file: another file may have taken its name meanwhile.
    inode: Option<Inode>,
    held: Mutex<Held>,
    /// Chunks being written: two writers of one chunk would verify one set of bytes and store another.
    writing: Mutex<BTreeSet<u32>>,
    write_ended: Notify,
    /// Syncs that failed. After one the kernel may have dropped any bytes written before, so none of them count.
    failed_syncs: AtomicU64,
    /// Times that chunks were withdrawn.
    withdrawals: AtomicU64,
    deleted: AtomicBool,
    /// Cleared when the file system turns out not to support reads that must not wait.
    supports_nowait: AtomicBool,
    /// Set on a file system without a disk.
    in_memory: bool,
}

#[derive(Debug)]
struct Held {
    chunks: ChunkSet,
    root: Option<Digest>,
    sha256: Option<Digest>,
    /// Made when it is first asked for after a change of the above.
    representation: Option<Arc<Representation>>,
}

/// The right to write one chunk. It travels with the work, so that work whose requester has gone still excludes others.
#[derive(Debug)]
pub(crate) struct WritePermit {
    blob: Arc<Blob>,
    chunk: ChunkIndex,
    /// Failed syncs before the first byte was written.
    failed_syncs: u64,
}

impl Blob {
    pub(crate) fn new(record: BlobRecord, file: File) -> Self {
        // A tmpfs supports no such reads and needs none: everything on it is in memory.
        let in_memory = rustix::fs::fstatfs(&file).is_ok_and(|found| found.f_type == TMPFS_MAGIC);
        let BlobRecord { id, layout, chunks, root, sha256 } = record;
        Self {
            in_memory,
            id,
            layout,
            inode: file.metadata().ok().map(|found| Inode::of(&found)),
            file: Arc::new(file),
            held: Mutex::new(Held { chunks, root, sha256, representation: None }),
            writing: Mutex::default(),
            write_ended: Notify::new(),
            failed_syncs: AtomicU64::new(0),
            withdrawals: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            supports_nowait: AtomicBool::new(!in_memory),
        }
    }

    /// Returns the file's id.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// Returns the file's size and chunk size.
    pub const fn layout(&self) -> ChunkLayout {
        self.layout
    }

    /// Returns the part of the file that can be served now.
    pub fn representation(&self) -> Arc<Representation> {
        let mut held = self.held();
        if let Some(made) = &held.representation {
            return made.clone();
        }
        let made = Arc::new(Representation::new(self.id, self.layout, held.chunks.clone(), held.sha256));
        held.representation = Some(made.clone());
        made
    }

    /// Returns the verified chunks, and the root once all are stored.
    pub fn progress(&self) -> (ChunkSet, Option<Digest>) {
        let held = self.held();
        (held.chunks.clone(), held.root)
    }

    /// Returns true if the chunk is verified.
    pub fn holds(&self, chunk: ChunkIndex) -> bool {
        self.held().chunks.contains(chunk.get())
    }

    /// Returns true if the file has its whole length on disk, and a name in a folder.
    ///
    /// # Errors
    /// When the file's metadata cannot be read.
    pub fn is_in_place(&self) -> io::Result<bool> {
        let found = self.file.metadata()?;
        Ok(found.len() == self.layout.size() && found.nlink() > 0)
    }

    /// Returns true if the file has its whole length on disk.
    pub(crate) fn has_full_length(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == self.layout.size())
    }

    /// Returns the blob if it has this layout.
    pub(crate) fn with_layout(self: Arc<Self>, layout: ChunkLayout) -> Result<Arc<Self>, BlobError> {
        if self.layout == layout { Ok(self) } else { Err(BlobError::LayoutConflict) }
    }

    /// Returns true if the open file is not the one that was `found` under its name.
    pub(crate) fn is_other_than(&self, found: Inode) -> bool {
        self.inode.is_some_and(|inode| inode != found)
    }

    pub(crate) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes bytes of a chunk whose [`WritePermit`] the caller has.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    pub(crate) fn add(&self, chunk: ChunkIndex) {
        self.change_held().chunks.insert(chunk.get()..chunk.get().saturating_add(1));
    }

    pub(crate) fn set_root(&self, root: Digest) {
        self.held().root = Some(root);
    }

    pub(crate) fn set_sha256(&self, digest: Digest) {
        self.change_held().sha256 = Some(digest);
    }

    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn note_failed_sync(&self) {
        self.failed_syncs.fetch_add(1, Ordering::AcqRel);
    }

    /// Withdraws chunks: they are not served any more, and the file is not complete.
    pub(crate) fn withdraw(&self, chunks: &[u32]) {
        self.withdrawals.fetch_add(1, Ordering::AcqRel);
        let mut held = self.change_held();
        chunks.iter().for_each(|n| held.chunks.remove(*n..n.saturating_add(1)));
        (held.root, held.sha256) = (None, None);
    }

    /// Returns how often chunks were withdrawn: a digest computed across a withdrawal is void.
    pub(crate) fn withdrawals(&self) -> u64 {
        self.withdrawals.load(Ordering::Acquire)
    }

    /// Marks the file's bytes as gone from the disk, or the open file as one that has lost its name: running responses end,
    /// and nothing that is being written counts.
    pub(crate) fn mark_lost(&self) {
        let mut held = self.held();
        *held = Held { chunks: ChunkSet::new(), root: None, sha256: None, representation: None };
        drop(held);
        self.mark_deleted();
    }

    /// Returns true if these bytes are still verified.
    pub(crate) fn holds_bytes(&self, bytes: &Range<u64>) -> bool {
        self.held().chunks.covers(self.layout.run_of_bytes(bytes.clone()))
    }

    /// Returns the right to write `chunk`, unless another writer has it.
    pub(crate) fn try_write_permit(self: &Arc<Self>, chunk: ChunkIndex) -> Option<WritePermit> {
        let free = self.writing().insert(chunk.get());
        free.then(|| WritePermit { blob: self.clone(), chunk, failed_syncs: self.failed_syncs.load(Ordering::Acquire) })
    }

    /// Waits for the right to write `chunk`.
    pub(crate) async fn write_permit(self: &Arc<Self>, chunk: ChunkIndex) -> WritePermit {
        loop {
            let ended = self.write_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if let Some(permit) = self.try_write_permit(chunk) {
                return permit;
            }
            ended.await;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is held, to change what the representation shows of it.
    fn change_held(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held();
        held.representation = None;
        held
    }

    fn writing(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WritePermit {
    pub(crate) const fn blob(&self) -> &Arc<Blob> {
        &self.blob
    }

    pub(crate) const fn chunk(&self) -> ChunkIndex {
        self.chunk
    }

    /// Returns true if a sync failed since the first byte was written.
    pub(crate) fn is_void(&self) -> bool {
        self.failed_syncs != self.blob.failed_syncs.load(Ordering::Acquire)
    }
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        self.blob.writing().remove(&self.chunk.get());
        self.blob.write_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(layout: ChunkLayout) -> Arc<Blob> {
        let record = BlobRecord { id: FileId::new(), layout, chunks: ChunkSet::new(), root: None, sha256: None };
        Arc::new(Blob::new(record, tempfile::tempfile().unwrap()))
    }

    #[test]
    fn the_representation_follows_every_change_of_what_is_held() {
        let layout = ChunkLayout::of(3 << 20).unwrap();
        let blob = blob(layout);
        let shown = || {
            let shown = blob.representation();
            (shown.chunks.clone(), shown.repr_digest().map(|digest| digest.to_str().unwrap().to_owned()))
        };
        assert_eq!(shown(), (ChunkSet::new(), None));
        layout.chunks().for_each(|chunk| blob.add(chunk));
        assert_eq!(shown(), (layout.all(), None));
        let digest = Digest::of(b"x");
        blob.set_sha256(digest);
        assert_eq!(shown(), (layout.all(), Some(digest.to_field())));
        assert!(Arc::ptr_eq(&blob.representation(), &blob.representation()), "made once");
        blob.withdraw(&[1]);
        let (chunks, digest) = shown();
        assert_eq!((chunks.contains(0), chunks.contains(1), digest), (true, false, None));
        blob.mark_lost();
        assert_eq!(shown(), (ChunkSet::new(), None));
    }

    #[tokio::test]
    async fn a_failed_sync_voids_what_was_begun_before_it_and_nothing_later() {
        let layout = ChunkLayout::of(3 << 20).unwrap();
        let blob = blob(layout);
        let chunks: Vec<ChunkIndex> = layout.chunks().collect();
        let before = blob.write_permit(chunks[0]).await;
        blob.note_failed_sync();
        let after = blob.write_permit(chunks[1]).await;
        assert!(before.is_void() && !after.is_void());
    }

    #[tokio::test]
    async fn a_chunk_has_one_writer_at_a_time_even_if_a_waiting_one_gives_up() {
        let layout = ChunkLayout::of(1).unwrap();
        let blob = blob(layout);
        let chunk = layout.chunk(0).unwrap();
        let first = blob.write_permit(chunk).await;
        let mut second = Box::pin(blob.write_permit(chunk));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let mut third = Box::pin(blob.write_permit(chunk));
        assert!(futures::poll!(third.as_mut()).is_pending());
        drop(second);
        drop(first);
        assert!(futures::poll!(third.as_mut()).is_ready());
    }
}
