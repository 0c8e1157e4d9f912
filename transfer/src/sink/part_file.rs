//! The `.part` file of a download in chunks.

use std::{
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use rustix::{
    fs::{Advice, FallocateFlags, fadvise, fallocate, fstatfs, fstatvfs},
    io::Errno,
};
use tokio_util::sync::CancellationToken;
use wire::{ChunkIndex, ChunkLayout, ChunkSet, Digest, Hasher};

use super::{
    chunk_sink::Sink,
    destination::Destination,
    error::SinkError,
    resume::{self, Hashing},
    staged_file::StagedFile,
};
use crate::journal::{FileIdentity, Journal, JournalHint, PreviousAttempts};

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
/// Bytes that are reserved at a time.
const PREALLOCATION_STEP: u64 = 256 << 20;
/// Memory for reading the whole file once more.
const READ_BUFFER_LEN: usize = 256 << 10;

/// The open `.part` file.
#[derive(Debug)]
pub(crate) struct PartFile {
    staged: StagedFile,
    journal: Journal,
    layout: ChunkLayout,
}

/// Reserves space step by step: some file systems write zeros for it, and an interruption must not wait for all of them.
fn preallocate(file: &std::fs::File, size: u64, cancel: &CancellationToken) -> rustix::io::Result<()> {
    let mut at = 0;
    while at < size && !cancel.is_cancelled() {
        let step = PREALLOCATION_STEP.min(size - at);
        fallocate(file, FallocateFlags::empty(), at, step)?;
        at += step;
    }
    Ok(())
}

/// Chunks that may be valid already: all that hold data.
#[derive(Debug)]
pub(crate) struct Candidates {
    chunks: ChunkSet,
    /// The file to which the bytes belong according to the journal.
    origin: BytesOrigin,
}

/// The file to which the bytes of a `.part` file belong, according to its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BytesOrigin {
    /// The same download, or an earlier attempt at it.
    ThisDownload,
    OtherDownload,
    /// Unknown origin: possibly a user's own file.
    Unknown,
}

impl PartFile {
    /// Opens or creates the `.part` file and takes its lock. Nothing in it changes before [`PartFile::resume`].
    pub(crate) fn open(
        destination: &Destination,
        identity: FileIdentity,
        previous: &PreviousAttempts,
        layout: ChunkLayout,
    ) -> Result<(Self, Candidates), SinkError> {
        let (staged, journal) = StagedFile::open(destination)?;
        let file = Self { staged, journal: Journal::new(journal, identity, previous), layout };
        let candidates = file.candidates(previous);
        Ok((file, candidates))
    }

    fn candidates(&self, previous: &PreviousAttempts) -> Candidates {
        let (mut chunks, origin) = match self.journal.read(previous) {
            JournalHint::Verified(verified) => (verified, BytesOrigin::ThisDownload),
            // The chunks may be the same in both: hashing decides.
            JournalHint::Foreign => (ChunkSet::new(), BytesOrigin::OtherDownload),
            JournalHint::Unusable => (ChunkSet::new(), BytesOrigin::Unknown),
        };
        for run in resume::written_chunks(&self.staged.file, self.layout).iter() {
            chunks.insert(run);
        }
        Candidates { chunks, origin }
    }

    /// Reserves the space now, so that a full disk is noticed before the first byte and not after the last but one.
    fn reserve(&self, cancel: &CancellationToken) -> Result<(), SinkError> {
        let (file, size) = (&self.staged.file, self.layout.size());
        let set_len = |doing| file.set_len(size).map_err(|error| self.staged.explain(doing, error, size));
        let len_before = file.metadata().map_or(0, |metadata| metadata.len());
        if len_before > size || size == 0 {
            set_len("cut")?;
        }
        if size == 0 {
            return Ok(());
        }
        // Some file systems take all that is left before they report that it is not enough.
        let free = fstatvfs(file).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
        let taken = file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        if size.saturating_sub(taken) > free {
            return Err(SinkError::Full { path: self.staged.part.path.clone(), needed: size });
        }
        // On tmpfs, reserving means zeroing every page before it is written: a second pass over memory for nothing.
        if fstatfs(file).is_ok_and(|system| system.f_type == TMPFS_MAGIC) {
            return set_len("size");
        }
        match preallocate(file, size, cancel) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => set_len("extend"),
            Err(error) => {
                // Space that was reserved before the disk was full would only be missing elsewhere.
                let _ = file.set_len(len_before.min(size));
                Err(self.staged.explain("reserve space for", error.into(), size))
            }
        }
    }

    /// Reserves the space, and returns the chunks of `candidates` that match their digests.
    pub(crate) fn resume(
        &self,
        digests: &[Option<Digest>],
        candidates: &Candidates,
        hashing: &Hashing<'_>,
    ) -> Result<ChunkSet, SinkError> {
        let Candidates { chunks, origin } = candidates;
        let valid = resume::verified_chunks(&self.staged.file, self.layout, digests, chunks, hashing);
        if hashing.cancel.is_cancelled() {
            return Ok(valid);
        }
        // One right chunk shows that the bytes are this file's, whatever the journal says.
        let is_foreign = valid.is_empty() && !self.is_empty(chunks);
        match origin {
            BytesOrigin::OtherDownload if is_foreign && !self.staged.replace => {
                return Err(SinkError::Foreign(self.staged.part.path.clone()));
            }
            BytesOrigin::OtherDownload if is_foreign => {
                self.staged.file.set_len(0).map_err(|error| self.staged.io_error("empty", error))?;
            }
            BytesOrigin::Unknown if is_foreign => {
                self.staged.remove_empty_journal();
                return Err(SinkError::NotADownload(self.staged.part.path.clone()));
            }
            _ => {}
        }
        // Before the file gets a length, the journal tells it from one of a user: reserved space may read as data after a power cut.
        self.journal.replace(&valid, digests);
        if *origin != BytesOrigin::ThisDownload {
            self.staged.sync_journal(self.journal.file());
        }
        self.reserve(hashing.cancel)?;
        Ok(valid)
    }

    /// Returns true if the file holds no data, in `chunks` or elsewhere.
    fn is_empty(&self, chunks: &ChunkSet) -> bool {
        let holds_more = || self.staged.file.metadata().is_ok_and(|metadata| metadata.len() > self.layout.size());
        chunks.is_empty() && !holds_more()
    }

    /// Writes the journal, for the next attempt.
    pub(crate) fn save(&self) {
        self.journal.save();
    }

    /// Gives the file its final name, after all its bytes are on the disk. To be called when every chunk was verified; they
    /// are read again if another process may have changed them since.
    pub(crate) fn finish(&self, digests: &[Option<Digest>], hashing: &Hashing<'_>) -> Result<(), SinkError> {
        let all = self.layout.all();
        self.staged.finish(self.layout.size(), || {
            let right = resume::verified_chunks(&self.staged.file, self.layout, digests, &all, hashing);
            let is_right = right.covers(0..self.layout.count());
            if !is_right && !hashing.cancel.is_cancelled() {
                // The next attempt fetches the others again.
                self.journal.replace(&right, digests);
            }
            Ok(is_right)
        })
    }

    /// Computes the SHA-256 of the whole file as it is on the disk; `None` when cancelled.
    pub(crate) fn sha256(&self, cancel: &CancellationToken) -> Result<Option<Digest>, SinkError> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; READ_BUFFER_LEN], 0);
        while at < self.layout.size() && !cancel.is_cancelled() {
            let left = usize::try_from(self.layout.size() - at).unwrap_or(usize::MAX);
            let part = buffer.get_mut(..left.min(READ_BUFFER_LEN)).unwrap_or_default();
            self.staged.file.read_exact_at(part, at).map_err(|error| self.staged.io_error("read", error))?;
            hasher.update(part);
            at += u64::try_from(part.len()).unwrap_or(u64::MAX);
        }
        Ok((!cancel.is_cancelled()).then(|| hasher.finish()))
    }
}

impl Sink for PartFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.staged.file.write_all_at(bytes, offset)
    }

    fn verified(&self, chunk: ChunkIndex, digest: Digest) -> io::Result<()> {
        let bytes = self.layout.bytes_of(chunk);
        let len = std::num::NonZeroU64::new(bytes.end - bytes.start);
        // Makes Linux begin to write the pages back at once, so that the sync at the end has little left to do.
        let _ = fadvise(&self.staged.file, bytes.start, len, Advice::DontNeed);
        self.staged.watch_size(self.layout.size());
        self.journal.add(chunk.get(), digest);
        Ok(())
    }

    fn explain(&self, error: io::Error) -> SinkError {
        self.staged.explain("write", error, self.layout.size())
    }
}
