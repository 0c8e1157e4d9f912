//! A file that is written under another name and renamed when it is complete: opened once, locked, never reached through a
//! link.

use std::{
    fs::{File, TryLockError},
    io,
};

use rustix::{
    fs::{AtFlags, RenameFlags, Stat, fstat, linkat, renameat, renameat_with, unlinkat},
    io::Errno,
};

use super::{
    access_watch::AccessWatch,
    destination::Destination,
    error::SinkError,
    folder_entry::{FolderEntry, PlainFile},
    lock_file::LockFile,
};

/// Times that the bytes are read again because other processes open the file meanwhile.
const MAX_CHECKS: u32 = 3;

/// The open `.part` file, locked against other downloads, with its journal and its final name.
///
/// Folders are opened once and names are resolved in them, never through symbolic links: another process that swaps a folder
/// or a name during a download cannot redirect the bytes.
#[derive(Debug)]
pub(super) struct StagedFile {
    pub(super) file: File,
    pub(super) part: FolderEntry,
    journal: FolderEntry,
    watch: AccessWatch,
    target: FolderEntry,
    pub(super) replace: bool,
    /// Lock on a file system that has none of its own.
    _lock: Option<LockFile>,
}

impl StagedFile {
    /// Opens or creates the `.part` file and its journal. Changes nothing in them.
    pub(super) fn open(destination: &Destination) -> Result<(Self, File), SinkError> {
        let target = FolderEntry::new(destination.path())?;
        let part = FolderEntry::new(destination.part_path())?;
        let device = |entry: &FolderEntry| fstat(&entry.folder).map(|stat| stat.st_dev).ok();
        if device(&target) != device(&part) {
            return Err(SinkError::OtherFileSystem(part.path, target.path));
        }
        target.check_free(destination.replace)?;
        let PlainFile { file, is_new } = part.open_plain()?;
        let watch = AccessWatch::new(&file, is_new);
        let lock = match file.try_lock() {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => return Err(SinkError::Busy(part.path)),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => Some(LockFile::create(&part.path)?),
            Err(TryLockError::Error(error)) => return Err(SinkError::io("lock", &part.path, error)),
        };
        if !part.is(&file)? {
            return Err(SinkError::Busy(part.path));
        }
        let mut journal_name = part.name.clone();
        journal_name.push(".journal");
        let journal = part.sibling(journal_name)?;
        let opened = journal.open_plain().inspect_err(|_| {
            if is_new {
                part.remove();
            }
        });
        let opened = opened.map_err(SinkError::of_journal)?;
        Ok((Self { file, part, journal, watch, target, replace: destination.replace, _lock: lock }, opened.file))
    }

    /// Compares the size of the file with what it has been since its space was reserved.
    pub(super) fn watch_size(&self, size: u64) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() != size) {
            self.watch.record();
        }
    }

    /// Removes the journal if nothing was written to it: [`Self::open`] then created it a moment ago.
    pub(super) fn remove_empty_journal(&self) {
        if self.journal.stat().is_ok_and(|stat| stat.is_some_and(|stat| stat.st_size == 0)) {
            self.journal.remove();
        }
    }

    /// Syncs the journal and its name, so that the file is known as an incomplete download after a power cut, too. A file system that
    /// cannot is no reason to fail: the journal is a hint.
    pub(super) fn sync_journal(&self, journal: &File) {
        let folder = || rustix::fs::fsync(&self.journal.folder).map_err(Into::into);
        if let Err(error) = journal.sync_all().and_then(|()| folder()) {
            tracing::debug!(%error, "The journal of {} was not synced", self.part.path.display());
        }
    }

    /// Removes the file and its journal, unless the name denotes another file by now.
    pub(super) fn discard(&self) {
        if self.part.is(&self.file).unwrap_or(false) {
            self.part.remove();
            self.journal.remove();
        }
    }

    /// Gives the file its final name, after all its `size` bytes are on the disk. `is_right` reads the bytes again: it is
    /// called if another process may have changed them since they were verified.
    pub(super) fn finish(&self, size: u64, is_right: impl Fn() -> Result<bool, SinkError>) -> Result<(), SinkError> {
        self.watch.include_writes(&self.file);
        self.file.sync_data().map_err(|error| SinkError::io("sync", &self.part.path, error))?;
        self.check_unchanged(size, is_right)?;
        if !self.part.is(&self.file)? {
            return Err(SinkError::Vanished(self.part.path.clone()));
        }
        self.rename()?;
        // In a folder that others may change, the name may have been taken by another file just before.
        if !self.target.is(&self.file)? {
            return Err(SinkError::Vanished(self.target.path.clone()));
        }
        match rustix::fs::fsync(&self.target.folder) {
            // Such a file system syncs a rename by itself, or cannot.
            Err(error) if is_unsupported(&error.into()) => {}
            synced => synced.map_err(|error| SinkError::io("sync the folder of", &self.target.path, error))?,
        }
        // The file is complete without the journal; one left behind is ignored.
        self.journal.remove();
        Ok(())
    }

    /// Checks that the file holds what was verified: no other process opened it since it was created, or its bytes are right
    /// when they are read again and no process writes meanwhile.
    fn check_unchanged(&self, size: u64, is_right: impl Fn() -> Result<bool, SinkError>) -> Result<(), SinkError> {
        let stat = || fstat(&self.file).map_err(|error| self.io_error("examine", error));
        let changed = || SinkError::Changed(self.part.path.clone());
        for _ in 0..MAX_CHECKS {
            let before = stat()?;
            // A file that was cut and grew again has holes. Compression has the same effect, and costs a check.
            let has_holes = u64::try_from(before.st_blocks).unwrap_or(0).saturating_mul(512) < size;
            if u64::try_from(before.st_size) != Ok(size) {
                return Err(changed());
            }
            if !self.watch.take() && !has_holes {
                return Ok(());
            }
            if !is_right()? {
                return Err(changed());
            }
            if is_same_state(&before, &stat()?) && !self.watch.take() {
                return Ok(());
            }
            self.watch.record();
        }
        Err(changed())
    }

    fn rename(&self) -> Result<(), SinkError> {
        let (part, target) = (&self.part, &self.target);
        let renamed = if self.replace {
            renameat(&part.folder, &part.name, &target.folder, &target.name)
        } else {
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&part.folder, &part.name, &target.folder, &target.name, flags) {
                // The file system cannot rename without replacing, but a second name never replaces.
                Err(error) if is_unsupported(&error.into()) => self.rename_by_link()?,
                renamed => renamed,
            }
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(SinkError::Exists(target.path.clone())),
            Err(Errno::NOENT) => Err(SinkError::Vanished(part.path.clone())),
            Err(error) => Err(SinkError::io("rename to", &target.path, error)),
        }
    }

    /// Renames by a second name. A file system without links renames plainly, after another look at the name.
    fn rename_by_link(&self) -> Result<rustix::io::Result<()>, SinkError> {
        let (part, target) = (&self.part, &self.target);
        match linkat(&part.folder, &part.name, &target.folder, &target.name, AtFlags::empty()) {
            Ok(()) => Ok(unlinkat(&part.folder, &part.name, AtFlags::empty())),
            Err(error) if error == Errno::PERM || error == Errno::MLINK || is_unsupported(&error.into()) => {
                target.check_free(false)?;
                Ok(renameat(&part.folder, &part.name, &target.folder, &target.name))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Explains an error of the storage for a file of `needed` bytes.
    pub(super) fn explain(&self, doing: &'static str, error: io::Error, needed: u64) -> SinkError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                SinkError::Full { path: self.part.path.clone(), needed }
            }
            io::ErrorKind::FileTooLarge => SinkError::TooLarge { path: self.part.path.clone(), needed },
            _ => self.io_error(doing, error),
        }
    }

    /// Returns an error about the `.part` file.
    pub(super) fn io_error(&self, doing: &'static str, error: impl Into<io::Error>) -> SinkError {
        SinkError::io(doing, &self.part.path, error)
    }
}

/// Returns true for the errors of a file system that lacks an operation: exFAT, FUSE and network file systems do.
fn is_unsupported(error: &io::Error) -> bool {
    let known = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK, Errno::NOTTY];
    Errno::from_io_error(error).is_some_and(|error| known.contains(&error))
}

/// Returns true if no process wrote between the two.
fn is_same_state(before: &Stat, after: &Stat) -> bool {
    let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    before.st_size == after.st_size && times(before) == times(after)
}
