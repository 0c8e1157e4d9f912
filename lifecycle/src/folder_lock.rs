//! The lock of a data folder, which keeps a second process out.
//!
//! Two locks are needed there: that of the whole folder (`flock`), and those that the database takes on its files (record locks,
//! `fcntl`). Some file systems in user space and on a network have neither. Without the first a server works, and nothing keeps a
//! second one out; without the other its database does not, so the server refuses before it makes anything.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};

/// The file that is locked.
pub const LOCK_FILE_NAME: &str = "lock";

/// Reason why a data folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum FolderLockError {
    /// Another process has the lock.
    #[error("another process works on {}: stop it, or choose another folder with --data", .0.display())]
    InUse(PathBuf),
    /// The file system has no record locks.
    #[error(
        "the file system of {} has no record locks (fcntl: {reason}), and the database needs them: choose a folder on another file \
         system with --data, or mount this one with locks",
        folder.display()
    )]
    NoRecordLocks {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
    /// The lock file could not be opened or locked.
    #[error("cannot lock {}: {reason}", path.display())]
    Failed {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
}

/// Lock of a data folder. It lasts as long as the value lives.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    is_effective: bool,
}

impl FolderLock {
    /// Locks a data folder. On a file system without such locks a warning is logged instead.
    ///
    /// # Errors
    /// [`FolderLockError`].
    pub fn acquire(folder: &Path) -> Result<Self, FolderLockError> {
        let path = folder.join(LOCK_FILE_NAME);
        let failed = |reason| FolderLockError::Failed { path: path.clone(), reason };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let is_effective = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(FolderLockError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                tracing::warn!(
                    folder = %folder.display(), %error,
                    "The file system of {} has no locks (flock: {error}): nothing keeps a second server from this folder, and two on \
                     one folder destroy its data. Make sure that only one is ever started on it",
                    folder.display()
                );
                false
            }
            Err(TryLockError::Error(reason)) => return Err(failed(reason)),
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(errno) if is_unsupported(&errno.into()) => {
                return Err(FolderLockError::NoRecordLocks { folder: folder.to_owned(), reason: errno.into() });
            }
            // A lock that another process holds shows that there are locks.
            Ok(()) | Err(_) => drop(fcntl_lock(&file, FlockOperation::NonBlockingUnlock)),
        }
        Ok(Self { file, is_effective })
    }

    /// Returns true if the lock keeps other processes out.
    pub const fn is_effective(&self) -> bool {
        self.is_effective
    }

    /// Returns the open lock file, which is on the folder's file system.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Returns true if a process has locked the data folder.
    ///
    /// # Errors
    /// When there is no telling.
    pub fn is_held(folder: &Path) -> io::Result<bool> {
        let lock = match File::open(folder.join(LOCK_FILE_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match lock.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(io::Error::new(
                error.kind(),
                format!("there is no telling whether a server works on {}: {error}", folder.display()),
            )),
        }
    }
}

/// Returns true if the file system has no such operation.
fn is_unsupported(error: &io::Error) -> bool {
    let known = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK, Errno::NOTTY];
    Errno::from_io_error(error).is_some_and(|error| known.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_lock_which_ends_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!FolderLock::is_held(folder.path()).unwrap(), "never used");
        let lock = FolderLock::acquire(folder.path()).unwrap();
        assert!(lock.is_effective() && FolderLock::is_held(folder.path()).unwrap());
        assert!(matches!(FolderLock::acquire(folder.path()), Err(FolderLockError::InUse(_))));
        drop(lock);
        assert!(!FolderLock::is_held(folder.path()).unwrap());
        assert!(FolderLock::acquire(folder.path()).is_ok());
    }
}
