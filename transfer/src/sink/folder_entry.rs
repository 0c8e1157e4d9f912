//! Names in an open folder, and the files behind them: never reached through a link, never another user's.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, statat, unlinkat},
    io::Errno,
    process::geteuid,
};

use super::error::SinkError;

/// Attempts to open or create a file whose name another process creates and removes meanwhile.
const MAX_OPEN_ATTEMPTS: u32 = 4;

/// A name in an open folder.
#[derive(Debug)]
pub(super) struct FolderEntry {
    pub(super) folder: OwnedFd,
    pub(super) name: OsString,
    /// Path that messages name.
    pub(super) path: PathBuf,
}

/// A plain file that was opened or created.
#[derive(Debug)]
pub(super) struct PlainFile {
    pub(super) file: File,
    /// Set if the file was created just now.
    pub(super) is_new: bool,
}

impl FolderEntry {
    pub(super) fn new(path: PathBuf) -> Result<Self, SinkError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SinkError::NotPlain(path));
        };
        let folder_path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            open(folder_path, flags, Mode::empty()).map_err(|error| SinkError::io("open", folder_path, error))?;
        let name = name.to_owned();
        Ok(Self { folder, name, path })
    }

    /// Returns the entry of another name in the same folder.
    pub(super) fn sibling(&self, name: OsString) -> Result<Self, SinkError> {
        let folder = self.folder.try_clone().map_err(|error| SinkError::io("open the folder of", &self.path, error))?;
        let path = self.path.with_file_name(&name);
        Ok(Self { folder, name, path })
    }

    /// Checks that a rename may take this name: no file has it, or a plain file or a link that may be replaced.
    pub(super) fn check_free(&self, replace: bool) -> Result<(), SinkError> {
        let Some(stat) = self.stat()? else { return Ok(()) };
        if !replace {
            return Err(SinkError::Exists(self.path.clone()));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => Ok(()),
            _ => Err(SinkError::NotReplaceable(self.path.clone())),
        }
    }

    pub(super) fn stat(&self) -> Result<Option<Stat>, SinkError> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(SinkError::io("examine", &self.path, error)),
        }
    }

    /// Opens or creates a plain file that has no other name and belongs to this user.
    pub(super) fn open_plain(&self) -> Result<PlainFile, SinkError> {
        for _ in 0..MAX_OPEN_ATTEMPTS {
            // Not blocking: opening a pipe would wait for its other end.
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match openat(&self.folder, &self.name, flags, Mode::empty()) {
                Ok(file) => {
                    let file = File::from(file);
                    self.check_own(&fstat(&file).map_err(|error| SinkError::io("examine", &self.path, error))?)?;
                    return Ok(PlainFile { file, is_new: false });
                }
                Err(Errno::NOENT) => {}
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(SinkError::NotPlain(self.path.clone())),
                Err(error) => {
                    // The reason for a refusal may be that it is another user's.
                    self.stat()?.map_or(Ok(()), |stat| self.check_own(&stat))?;
                    return Err(SinkError::io("open", &self.path, error));
                }
            }
            match openat(&self.folder, &self.name, flags | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o666)) {
                Ok(file) => return Ok(PlainFile { file: file.into(), is_new: true }),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(SinkError::io("create", &self.path, error)),
            }
        }
        Err(SinkError::Busy(self.path.clone()))
    }

    /// Checks that an existing file can be used: its owner can change it at any time.
    fn check_own(&self, stat: &Stat) -> Result<(), SinkError> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(SinkError::NotPlain(self.path.clone()));
        }
        // Some file systems give all files one owner, whichever user creates them.
        if stat.st_uid != geteuid().as_raw() && Some(stat.st_uid) != self.owner_of_new_files() {
            return Err(SinkError::NotOwn(self.path.clone()));
        }
        Ok(())
    }

    /// Returns the owner that the file system gives to files that this process creates.
    fn owner_of_new_files(&self) -> Option<u32> {
        let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
        let owner = |file: OwnedFd| fstat(file).ok().map(|stat| stat.st_uid);
        if let Ok(file) = openat(&self.folder, OsStr::new("."), flags | OFlags::TMPFILE, mode) {
            return owner(file);
        }
        let mut name = self.name.clone();
        name.push(format!(".{}", std::process::id()));
        let file = openat(&self.folder, &name, flags | OFlags::CREATE | OFlags::EXCL, mode).ok()?;
        let _ = unlinkat(&self.folder, &name, AtFlags::empty());
        owner(file)
    }

    /// Returns true if the name still denotes this open file.
    pub(super) fn is(&self, file: &File) -> Result<bool, SinkError> {
        let own = fstat(file).map_err(|error| SinkError::io("examine", &self.path, error))?;
        Ok(self.stat()?.is_some_and(|stat| (stat.st_dev, stat.st_ino) == (own.st_dev, own.st_ino)))
    }

    /// Removes the name.
    pub(super) fn remove(&self) {
        let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}
