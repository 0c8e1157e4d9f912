//! One replica: an open file, and which of its chunks are verified.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Notify;
use wire::{ChunkIndex, Digest, FileId, Layout, Runs};

use super::BlobError;
use crate::{answer::Representation, store::FileRow};

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// One replica.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(super) id: FileId,
    pub(super) layout: Layout,
    pub(super) file: Arc<File>,
    held: Mutex<Held>,
    /// Chunks being written: two writers of one chunk would verify one set of bytes and store another.
    writing: Mutex<BTreeSet<u32>>,
    written: Notify,
    /// Syncs that failed. After one the kernel may have dropped any bytes written before, so none of them count.
    failures: AtomicU64,
    /// How often chunks were taken back.
    damages: AtomicU64,
    deleted: AtomicBool,
    /// Cleared when the file system turns out not to know reads that must not wait.
    reads_at_once: AtomicBool,
    /// On a file system without a disk.
    in_memory: bool,
}

#[derive(Debug, Clone)]
struct Held {
    runs: Runs,
    root: Option<Digest>,
    sha256: Option<Digest>,
}

/// The right to write one chunk. It travels with the work, so that work whose requester has gone still excludes others.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) blob: Arc<Blob>,
    pub(super) chunk: ChunkIndex,
    /// The failures there were before the first byte was written.
    failures: u64,
}

impl Blob {
    pub(super) fn new(row: FileRow, file: File) -> Self {
        // A tmpfs knows no such reads and needs none: everything on it is in memory.
        let in_memory = rustix::fs::fstatfs(&file).is_ok_and(|found| found.f_type == TMPFS);
        Self {
            in_memory,
            id: row.id,
            layout: row.layout,
            file: Arc::new(file),
            held: Mutex::new(Held { runs: row.runs, root: row.root, sha256: row.sha256 }),
            writing: Mutex::default(),
            written: Notify::new(),
            failures: AtomicU64::new(0),
            damages: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            reads_at_once: AtomicBool::new(!in_memory),
        }
    }

    /// The blob, if it has this layout.
    pub(super) fn checked(self: Arc<Self>, layout: Layout) -> Result<Arc<Self>, BlobError> {
        if self.layout == layout { Ok(self) } else { Err(BlobError::Layout) }
    }

    /// What can be served now.
    pub(crate) fn representation(&self) -> Representation {
        let Held { runs, sha256, .. } = self.held().clone();
        Representation { file: self.id, layout: self.layout, runs, sha256 }
    }

    /// The verified chunks, and the root once all are there.
    pub(crate) fn progress(&self) -> (Runs, Option<Digest>) {
        let held = self.held();
        (held.runs.clone(), held.root)
    }

    /// Whose bytes these are.
    pub(crate) const fn id(&self) -> FileId {
        self.id
    }

    /// How the file is cut.
    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the chunk is verified.
    pub(crate) fn holds(&self, chunk: ChunkIndex) -> bool {
        self.held().runs.contains(chunk.get())
    }

    pub(super) fn add(&self, chunk: ChunkIndex) {
        self.held().runs.insert(chunk.get()..chunk.get().saturating_add(1));
    }

    pub(super) fn set_root(&self, root: Digest) {
        self.held().root = Some(root);
    }

    pub(super) fn set_sha256(&self, digest: Digest) {
        self.held().sha256 = Some(digest);
    }

    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(super) fn note_failed_sync(&self) {
        self.failures.fetch_add(1, Ordering::AcqRel);
    }

    /// What is held of these chunks does not count any more.
    pub(super) fn drop_chunks(&self, chunks: &[u32]) {
        self.damages.fetch_add(1, Ordering::AcqRel);
        let mut held = self.held();
        chunks.iter().for_each(|n| held.runs.remove(*n..n.saturating_add(1)));
        (held.root, held.sha256) = (None, None);
    }

    /// How often chunks were taken back: what was read meanwhile says nothing.
    pub(super) fn damages(&self) -> u64 {
        self.damages.load(Ordering::Acquire)
    }

    /// The bytes are gone from the disk.
    pub(super) fn mark_lost(&self) {
        let mut held = self.held();
        *held = Held { runs: Runs::new(), root: None, sha256: None };
        drop(held);
        self.mark_deleted();
    }

    /// Whether these bytes are verified still.
    pub(super) fn holds_bytes(&self, bytes: &Range<u64>) -> bool {
        self.held().runs.covers(self.layout.run_of_bytes(bytes.clone()))
    }

    /// Whether the file still has its whole length.
    pub(crate) fn has_its_length(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == self.layout.size())
    }

    /// Whether the file still has its whole length, and a name in a folder.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let found = self.file.metadata()?;
        Ok(found.len() == self.layout.size() && found.nlink() > 0)
    }

    /// The right to write `chunk`, if nobody has it.
    pub(super) fn try_turn(self: &Arc<Self>, chunk: ChunkIndex) -> Option<Turn> {
        let free = self.writers().insert(chunk.get());
        free.then(|| Turn { blob: self.clone(), chunk, failures: self.failures.load(Ordering::Acquire) })
    }

    /// The file's bytes, for who reads them again.
    pub(crate) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Waits for the right to write `chunk`.
    pub(super) async fn turn(self: &Arc<Self>, chunk: ChunkIndex) -> Turn {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            if self.writers().insert(chunk.get()) {
                return Turn { blob: self.clone(), chunk, failures: self.failures.load(Ordering::Acquire) };
            }
            written.await;
        }
    }

    /// Whether every `step`-th byte of `piece`, and so in all likelihood the rest, can be read without waiting for a disk.
    pub(crate) fn is_in_memory(&self, piece: &Range<u64>, step: u64) -> io::Result<bool> {
        if !self.reads_at_once.load(Ordering::Relaxed) {
            return Ok(self.in_memory);
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        for at in piece.clone().step_by(step).chain([piece.end.saturating_sub(1)]) {
            match rustix::io::preadv2(&*self.file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.reads_at_once.store(false, Ordering::Relaxed);
                    return Ok(self.in_memory);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writers(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether a sync failed since the first byte was written.
    pub(super) fn is_spoiled(&self) -> bool {
        self.failures != self.blob.failures.load(Ordering::Acquire)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.blob.writers().remove(&self.chunk.get());
        self.blob.written.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_sync_spoils_what_was_begun_before_it_and_nothing_later() {
        let layout = Layout::of(3 << 20).unwrap();
        let row = FileRow { id: FileId::new(), layout, runs: Runs::new(), root: None, sha256: None };
        let blob = Arc::new(Blob::new(row, tempfile::tempfile().unwrap()));
        let chunks: Vec<ChunkIndex> = layout.chunks().collect();
        let before = blob.turn(chunks[0]).await;
        blob.note_failed_sync();
        let after = blob.turn(chunks[1]).await;
        assert!(before.is_spoiled() && !after.is_spoiled());
    }

    #[tokio::test]
    async fn a_chunk_has_one_writer_at_a_time_even_if_a_waiting_one_gives_up() {
        let layout = Layout::of(1).unwrap();
        let row = FileRow { id: FileId::new(), layout, runs: Runs::new(), root: None, sha256: None };
        let blob = Arc::new(Blob::new(row, tempfile::tempfile().unwrap()));
        let chunk = layout.chunk(0).unwrap();
        let first = blob.turn(chunk).await;
        let mut second = Box::pin(blob.turn(chunk));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let mut third = Box::pin(blob.turn(chunk));
        assert!(futures::poll!(third.as_mut()).is_pending());
        drop(second);
        drop(first);
        assert!(futures::poll!(third.as_mut()).is_ready());
    }
}
