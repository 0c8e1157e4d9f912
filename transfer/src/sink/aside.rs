//! A file that is written aside and gets its name when it is whole: opened once, locked, never reached through a link.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fstat, linkat, open, openat, renameat, renameat_with,
        statat, unlinkat,
    },
    io::Errno,
};

use super::{Place, SinkError};

/// A name in an open folder.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) folder: OwnedFd,
    pub(super) name: OsString,
    /// For messages only.
    pub(super) path: PathBuf,
}

impl Entry {
    pub(super) fn new(path: PathBuf) -> Result<Self, SinkError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SinkError::NotPlain(path));
        };
        let folder_path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder_path, flags, Mode::empty()).map_err(|error| failed("open", folder_path, error))?;
        let name = name.to_owned();
        Ok(Self { folder, name, path })
    }

    /// Refuses what a rename would replace without need: nothing is there, or a plain file or a link that may go.
    fn must_be_free(&self, replace: bool) -> Result<(), SinkError> {
        let Some(stat) = self.stat()? else { return Ok(()) };
        if !replace {
            return Err(SinkError::Exists(self.path.clone()));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => Ok(()),
            _ => Err(SinkError::NotReplaceable(self.path.clone())),
        }
    }

    fn stat(&self) -> Result<Option<Stat>, SinkError> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("examine", &self.path, error)),
        }
    }

    /// Opens or creates a plain file that has no other name.
    pub(super) fn open_plain(&self, name: &OsString) -> Result<File, SinkError> {
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
    pub(super) fn is(&self, file: &File) -> Result<bool, SinkError> {
        let own = fstat(file).map_err(|error| failed("examine", &self.path, error))?;
        Ok(self.stat()?.is_some_and(|stat| (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino)))
    }
}

/// The open `.part` file, locked against other downloads, with its journal and the name that it is to get.
///
/// Folders are opened once and names are resolved in them, never through symbolic links: whoever swaps a folder or a name
/// while a download runs cannot lead it elsewhere.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) file: File,
    pub(super) part: Entry,
    journal_name: OsString,
    target: Entry,
    pub(super) replace: bool,
}

impl Aside {
    /// Opens or creates the `.part` file and its journal. Nothing in them is changed.
    pub(super) fn open(place: &Place) -> Result<(Self, File), SinkError> {
        let target = Entry::new(place.path())?;
        let part = Entry::new(place.part_path())?;
        let device = |entry: &Entry| fstat(&entry.folder).map(|stat| stat.st_dev).ok();
        if device(&target) != device(&part) {
            return Err(SinkError::OtherFileSystem(part.path, target.path));
        }
        target.must_be_free(place.replace)?;
        let file = part.open_plain(&part.name)?;
        match file.try_lock() {
            Ok(()) if part.is(&file)? => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Err(SinkError::Busy(part.path)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &part.path, error)),
        }
        let mut journal_name = part.name.clone();
        journal_name.push(".journal");
        let journal = part.open_plain(&journal_name)?;
        Ok((Self { file, part, journal_name, target, replace: place.replace }, journal))
    }

    /// Nothing was written to it: it was made a moment ago, for nothing.
    pub(super) fn forget_empty_journal(&self) {
        let stat = statat(&self.part.folder, &self.journal_name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| stat.st_size == 0) {
            let _ = unlinkat(&self.part.folder, &self.journal_name, AtFlags::empty());
        }
    }

    /// Removes the file and its journal, unless the name stands for something else by now.
    pub(super) fn discard(&self) {
        if self.part.is(&self.file).unwrap_or(false) {
            let _ = unlinkat(&self.part.folder, &self.part.name, AtFlags::empty());
            let _ = unlinkat(&self.part.folder, &self.journal_name, AtFlags::empty());
        }
    }

    /// Gives the file its final name, after all its bytes are on the disk.
    pub(super) fn finish(&self) -> Result<(), SinkError> {
        self.file.sync_data().map_err(|error| failed("sync", &self.part.path, error))?;
        if !self.part.is(&self.file)? {
            return Err(SinkError::Vanished(self.part.path.clone()));
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
            Err(Errno::NOENT) => Err(SinkError::Vanished(part.path.clone())),
            Err(error) => Err(failed("rename to", &target.path, error)),
        }
    }

    /// What an error of the storage means for a file of `needed` bytes.
    pub(super) fn explain(&self, doing: &'static str, error: io::Error, needed: u64) -> SinkError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                SinkError::Full { path: self.part.path.clone(), needed }
            }
            _ => failed(doing, &self.part.path, error),
        }
    }
}

pub(super) fn failed(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> SinkError {
    SinkError::Io { doing, path: path.to_owned(), source: error.into() }
}
