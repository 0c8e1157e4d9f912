//! Errors of the storage.

use std::{
    io,
    path::{Path, PathBuf},
};
use wire::grammar::counted;

/// The reason for which bytes cannot be stored. What is verified so far stays in the `.part` file.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file of that name exists.
    #[error("{} exists already; choose another name, or allow it to be replaced", .0.display())]
    Exists(PathBuf),
    /// Another process downloads to the same `.part` file.
    #[error("{} is in use by another download; wait for it, or choose another name", .0.display())]
    Busy(PathBuf),
    /// Another process may download to the same `.part` file, on a file system without locks.
    #[error(
        "{} may be in use by another download: {} says so; wait for it, or remove that file if no download runs on any machine",
        .part.display(), .lock.display()
    )]
    Locked {
        /// The `.part` file.
        part: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// The file system holds no file of this size.
    #[error(
        "the file system of {} takes no file of {} (FAT ends at 4 GiB, and there may be a limit for files): choose \
         another folder", .path.display(), counted(.needed.to_owned(), "byte")
    )]
    TooLarge {
        /// The `.part` file.
        path: PathBuf,
        /// Bytes in the whole file.
        needed: u64,
    },
    /// The `.part` file is a symbolic link, a folder, a device, or has a second name.
    #[error("{} is not a plain file of its own; move it away and try again", .0.display())]
    NotPlain(PathBuf),
    /// The `.part` file belongs to another user, who could change it after it was verified.
    #[error("{} belongs to another user, who could change it at any time; choose another name or another folder", .0.display())]
    NotOwn(PathBuf),
    /// The name of the journal denotes a link, a folder, or a file of another user.
    #[error("{} stands where the journal of the download belongs; move it away and try again: what was downloaded stays in the .part file beside it and will be used", .0.display())]
    JournalBlocked(PathBuf),
    /// The `.part` file holds nothing of this file but belongs to another download, and replacing was not allowed.
    #[error("{} holds bytes of another download; remove it, choose another name, or allow it to be replaced", .0.display())]
    Foreign(PathBuf),
    /// The `.part` file is a user's own file.
    #[error("{} is not an incomplete download, so it is never replaced; move it away, or choose another name or folder", .0.display())]
    NotADownload(PathBuf),
    /// Another process changed the `.part` file during the download.
    #[error("{} was changed by another process during the download; start again to fetch what is wrong", .0.display())]
    Changed(PathBuf),
    /// The `.part` file was removed or replaced during the download.
    #[error("{} was moved or removed during the download; start again", .0.display())]
    Vanished(PathBuf),
    /// The file to be replaced is not a plain file.
    #[error("{} is not a plain file, so it cannot be replaced; choose another name", .0.display())]
    NotReplaceable(PathBuf),
    /// The `.part` file cannot be renamed to its final name.
    #[error("{} and {} are on different file systems; choose a folder for partial files beside the target", .0.display(), .1.display())]
    OtherFileSystem(PathBuf, PathBuf),
    /// The disk is full.
    #[error("no room for {} at {}; free some space, then start again to resume", counted(.needed.to_owned(), "byte"), .path.display())]
    Full {
        /// The `.part` file.
        path: PathBuf,
        /// Bytes in the whole file.
        needed: u64,
    },
    /// Any other error of the system.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl SinkError {
    /// Turns an error about a plain file into one about the journal.
    pub(super) fn of_journal(self) -> Self {
        match self {
            Self::NotPlain(path) | Self::NotOwn(path) => Self::JournalBlocked(path),
            other => other,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.to_owned(), source: error.into() }
    }
}
