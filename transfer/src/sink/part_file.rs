//! The file of a download in chunks while it is incomplete.

use std::{
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use rustix::{
    fs::{Advice, FallocateFlags, fadvise, fallocate, fstatfs, fstatvfs},
    io::Errno,
};
use tokio_util::sync::CancellationToken;
use wire::{ChunkIndex, Digest, Hasher, Layout, Runs};

use super::{
    Place, Sink, SinkError,
    aside::{Aside, failed},
    resume,
};
use crate::journal::{Hint, Identity, Journal, Kin};

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;
/// Memory for reading the whole once more.
const BUFFER: usize = 256 << 10;

/// The open `.part` file.
#[derive(Debug)]
pub(crate) struct PartFile {
    aside: Aside,
    journal: Journal,
    layout: Layout,
}

/// Chunks that may be good already: all that hold data.
#[derive(Debug)]
pub(crate) struct Candidates {
    runs: Runs,
    /// Whether the journal says that the bytes are of this very file.
    ours: bool,
}

impl PartFile {
    /// Opens or creates the `.part` file and takes its lock. Nothing in it is changed before [`PartFile::resume`].
    pub(crate) fn open(
        place: &Place,
        (identity, kin): (Identity, &Kin),
        layout: Layout,
    ) -> Result<(Self, Candidates), SinkError> {
        let (aside, journal) = Aside::open(place)?;
        let found = Self { aside, journal: Journal::new(journal, identity, kin.origin), layout };
        let candidates = found.candidates(kin)?;
        Ok((found, candidates))
    }

    /// The chunks that may be good.
    fn candidates(&self, kin: &Kin) -> Result<Candidates, SinkError> {
        let hint = self.journal.read(kin);
        let ours = matches!(hint, Hint::Verified(_));
        let mut runs = Runs::new();
        match hint {
            Hint::Foreign if !self.aside.replace => return Err(SinkError::Foreign(self.aside.part.path.clone())),
            Hint::Foreign => {
                self.aside.file.set_len(0).map_err(|error| failed("empty", &self.aside.part.path, error))?
            }
            Hint::Nothing => {}
            Hint::Verified(verified) => runs = verified,
        }
        for run in resume::written_chunks(&self.aside.file, self.layout).iter() {
            runs.insert(run);
        }
        Ok(Candidates { runs, ours })
    }

    /// Takes the space now, so that a full disk is noticed before the first byte and not after the last but one.
    fn reserve(&self) -> Result<(), SinkError> {
        let size = self.layout.size();
        let had = self.aside.file.metadata().map_or(0, |metadata| metadata.len());
        if had > size || size == 0 {
            self.aside.file.set_len(size).map_err(|error| failed("cut", &self.aside.part.path, error))?;
        }
        if size == 0 {
            return Ok(());
        }
        // Some file systems take all that is left before they say that it is not enough.
        let free =
            fstatvfs(&self.aside.file).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
        let taken = self.aside.file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        if size.saturating_sub(taken) > free {
            return Err(SinkError::Full { path: self.aside.part.path.clone(), needed: size });
        }
        // There, reserving means zeroing every page before it is written: a second pass over memory for nothing.
        if fstatfs(&self.aside.file).is_ok_and(|system| system.f_type == TMPFS) {
            return self.aside.file.set_len(size).map_err(|error| failed("size", &self.aside.part.path, error));
        }
        match fallocate(&self.aside.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.aside.file.set_len(size).map_err(|error| failed("extend", &self.aside.part.path, error))
            }
            Err(error) => {
                // What was reserved before the disk was full would only stand in others' way.
                let _ = self.aside.file.set_len(had.min(size));
                Err(self.aside.explain("reserve space for", error.into(), size))
            }
        }
    }

    /// Reserves the space, and finds the chunks of `candidates` that match their digests.
    pub(crate) fn resume(
        &self,
        digests: &[Option<Digest>],
        candidates: &Candidates,
        cancel: &CancellationToken,
    ) -> Result<Runs, SinkError> {
        let Candidates { runs, ours } = candidates;
        let good = resume::verified_chunks(&self.aside.file, self.layout, digests, runs, cancel);
        // Somebody's file that happens to be named so: neither a journal nor a single chunk says that it is ours.
        let foreign = !ours && good.is_empty() && !runs.is_empty() && !cancel.is_cancelled();
        if foreign && !self.aside.replace {
            self.aside.forget_empty_journal();
            return Err(SinkError::Foreign(self.aside.part.path.clone()));
        }
        self.reserve()?;
        self.journal.note(&good);
        // From the first byte on the file can be told from one that is not ours.
        self.journal.save();
        Ok(good)
    }

    /// Notes what is verified, for the next try.
    pub(crate) fn save(&self) {
        self.journal.save();
    }

    /// Gives the file its final name, after all its bytes are on the disk. To be called when every chunk is verified.
    pub(crate) fn finish(&self) -> Result<(), SinkError> {
        self.aside.finish()
    }

    /// The SHA-256 of the whole, as it is on the disk; none when cancelled.
    pub(crate) fn sha256(&self, cancel: &CancellationToken) -> Result<Option<Digest>, SinkError> {
        let (mut hasher, mut buffer, mut at) = (Hasher::new(), vec![0; BUFFER], 0);
        while at < self.layout.size() && !cancel.is_cancelled() {
            let left = usize::try_from(self.layout.size() - at).unwrap_or(usize::MAX);
            let part = buffer.get_mut(..left.min(BUFFER)).unwrap_or_default();
            let read = self.aside.file.read_exact_at(part, at);
            read.map_err(|error| failed("read", &self.aside.part.path, error))?;
            hasher.update(part);
            at += u64::try_from(part.len()).unwrap_or(u64::MAX);
        }
        Ok((!cancel.is_cancelled()).then(|| hasher.finish()))
    }
}

impl Sink for PartFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.aside.file.write_all_at(bytes, offset)
    }

    fn verified(&self, chunk: ChunkIndex) -> io::Result<()> {
        let bytes = self.layout.bytes_of(chunk);
        let len = std::num::NonZeroU64::new(bytes.end - bytes.start);
        // Makes Linux begin to write the pages back at once, so that the sync at the end has little left to do.
        let _ = fadvise(&self.aside.file, bytes.start, len, Advice::DontNeed);
        self.journal.note(&Runs::from(chunk.get()..chunk.get() + 1));
        Ok(())
    }

    fn explain(&self, error: io::Error) -> SinkError {
        self.aside.explain("write", error, self.layout.size())
    }
}
