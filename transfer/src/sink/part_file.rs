//! A download's file while it is incomplete: written aside, synced, then renamed.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat, fadvise, fallocate, fstat, fstatfs,
        fstatvfs, linkat, open, openat, renameat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};
use tokio_util::sync::CancellationToken;
use wire::{ChunkIndex, Digest, Layout, Runs};

use super::{Place, Sink, SinkError, resume};
use crate::journal::{Hint, Identity, Journal};

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// The open `.part` file, locked against other downloads.
///
/// Folders are opened once and names are resolved in them, never through symbolic links: whoever swaps a folder or a name
/// while a download runs cannot lead it elsewhere.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    journal: Journal,
    layout: Layout,
    part: Entry,
    journal_name: OsString,
    target: Entry,
    replace: bool,
}

/// A name in an open folder.
#[derive(Debug)]
struct Entry {
    folder: OwnedFd,
    name: OsString,
    /// For messages only.
    path: PathBuf,
}

impl Entry {
    fn new(path: PathBuf) -> Result<Self, SinkError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SinkError::NotPlain(path));
        };
        let folder_path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder_path, flags, Mode::empty()).map_err(|error| failed("open", folder_path, error))?;
        let name = name.to_owned();
        Ok(Self { folder, name, path })
    }

    fn stat(&self) -> Result<Option<Stat>, SinkError> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("examine", &self.path, error)),
        }
    }

    /// Opens or creates a plain file that has no other name.
    fn open_plain(&self, name: &OsString) -> Result<File, SinkError> {
        // Not blocking: opening a pipe would wait for its other end.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(SinkError::NotPlain(self.path.clone())),
            Err(error) => return Err(failed("create", &self.path, error)),
        };
        let stat = fstat(&file).map_err(|error| failed("examine", &self.path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(SinkError::NotPlain(self.path.clone()));
        }
        Ok(file)
    }

    /// Whether the name still stands for this open file.
    fn is(&self, file: &File) -> Result<bool, SinkError> {
        let own = fstat(file).map_err(|error| failed("examine", &self.path, error))?;
        Ok(self.stat()?.is_some_and(|stat| (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino)))
    }
}

impl PartFile {
    /// Opens or creates the `.part` file, takes its lock and reserves the space. Also returns the chunks that may be there
    /// already: all that hold data, unless the bytes are known to be of another file.
    pub(crate) fn open(place: &Place, identity: Identity, layout: Layout) -> Result<(Self, Runs), SinkError> {
        let target = Entry::new(place.path())?;
        let part = Entry::new(place.part_path())?;
        let device = |entry: &Entry| fstat(&entry.folder).map(|stat| stat.st_dev).ok();
        if device(&target) != device(&part) {
            return Err(SinkError::OtherFileSystem(part.path, target.path));
        }
        if !place.replace && target.stat()?.is_some() {
            return Err(SinkError::Exists(target.path));
        }
        let file = part.open_plain(&part.name)?;
        match file.try_lock() {
            Ok(()) if part.is(&file)? => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Err(SinkError::Busy(part.path)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &part.path, error)),
        }
        let mut journal_name = part.name.clone();
        journal_name.push(".journal");
        let journal = Journal::new(part.open_plain(&journal_name)?, identity);
        let found = Self { file, journal, layout, part, journal_name, target, replace: place.replace };
        let candidates = found.candidates()?;
        found.reserve()?;
        Ok((found, candidates))
    }

    fn candidates(&self) -> Result<Runs, SinkError> {
        let mut candidates = Runs::new();
        match self.journal.read() {
            Hint::Foreign => self.file.set_len(0).map_err(|error| failed("empty", &self.part.path, error))?,
            Hint::Nothing => {}
            Hint::Verified(runs) => candidates = runs,
        }
        for run in resume::written_chunks(&self.file, self.layout).iter() {
            candidates.insert(run);
        }
        Ok(candidates)
    }

    /// Takes the space now, so that a full disk is noticed before the first byte and not after the last but one.
    fn reserve(&self) -> Result<(), SinkError> {
        let size = self.layout.size();
        let had = self.file.metadata().map_or(0, |metadata| metadata.len());
        if had > size || size == 0 {
            self.file.set_len(size).map_err(|error| failed("cut", &self.part.path, error))?;
        }
        if size == 0 {
            return Ok(());
        }
        // Some file systems take all that is left before they say that it is not enough.
        let free = fstatvfs(&self.file).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
        let taken = self.file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        if size.saturating_sub(taken) > free {
            return Err(SinkError::Full { path: self.part.path.clone(), needed: size });
        }
        // There, reserving means zeroing every page before it is written: a second pass over memory for nothing.
        if fstatfs(&self.file).is_ok_and(|system| system.f_type == TMPFS) {
            return self.file.set_len(size).map_err(|error| failed("size", &self.part.path, error));
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.file.set_len(size).map_err(|error| failed("extend", &self.part.path, error))
            }
            Err(error) => {
                // What was reserved before the disk was full would only stand in others' way.
                let _ = self.file.set_len(had.min(size));
                Err(self.explain_doing("reserve space for", error.into()))
            }
        }
    }

    /// The chunks of `candidates` that match their digests.
    pub(crate) fn check(&self, digests: &[Option<Digest>], candidates: &Runs, cancel: &CancellationToken) -> Runs {
        let good = resume::verified_chunks(&self.file, self.layout, digests, candidates, cancel);
        self.journal.note(&good);
        good
    }

    /// Notes what is verified, for the next try.
    pub(crate) fn save(&self) {
        self.journal.save();
    }

    /// Gives the file its final name, after all its bytes are on the disk. To be called when every chunk is verified.
    pub(crate) fn finish(&self) -> Result<(), SinkError> {
        self.file.sync_data().map_err(|error| failed("sync", &self.part.path, error))?;
        if !self.part.is(&self.file)? {
            return Err(SinkError::NotPlain(self.part.path.clone()));
        }
        self.rename()?;
        let folder = rustix::fs::fsync(&self.target.folder);
        folder.map_err(|error| failed("sync the folder of", &self.target.path, error))?;
        // The file is complete without it; one left behind is ignored.
        let _ = unlinkat(&self.part.folder, &self.journal_name, AtFlags::empty());
        Ok(())
    }

    fn rename(&self) -> Result<(), SinkError> {
        let (part, target) = (&self.part, &self.target);
        let renamed = if self.replace {
            renameat(&part.folder, &part.name, &target.folder, &target.name)
        } else {
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&part.folder, &part.name, &target.folder, &target.name, flags) {
                // The file system cannot rename without replacing, but a second name never replaces.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    linkat(&part.folder, &part.name, &target.folder, &target.name, AtFlags::empty())
                        .and_then(|()| unlinkat(&part.folder, &part.name, AtFlags::empty()))
                }
                renamed => renamed,
            }
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(SinkError::Exists(target.path.clone())),
            Err(error) => Err(failed("rename to", &target.path, error)),
        }
    }

    fn explain_doing(&self, doing: &'static str, error: io::Error) -> SinkError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                SinkError::Full { path: self.part.path.clone(), needed: self.layout.size() }
            }
            _ => failed(doing, &self.part.path, error),
        }
    }
}

impl Sink for PartFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn verified(&self, chunk: ChunkIndex) -> io::Result<()> {
        let bytes = self.layout.bytes_of(chunk);
        let len = std::num::NonZeroU64::new(bytes.end - bytes.start);
        // Makes Linux begin to write the pages back at once, so that the sync at the end has little left to do.
        let _ = fadvise(&self.file, bytes.start, len, Advice::DontNeed);
        self.journal.note(&Runs::from(chunk.get()..chunk.get() + 1));
        Ok(())
    }

    fn explain(&self, error: io::Error) -> SinkError {
        self.explain_doing("write", error)
    }
}

fn failed(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> SinkError {
    SinkError::Io { doing, path: path.to_owned(), source: error.into() }
}
