//! Where verified bytes go.

mod aside;
mod part_file;
mod resume;
mod whole_file;

use std::{
    io,
    path::{Path, PathBuf},
};

use wire::{ChunkIndex, FileName};

pub(crate) use self::part_file::PartFile;
pub use self::whole_file::WholeFile;

/// Takes the bytes of a download.
///
/// Calls are synchronous on purpose: a positioned write into the page cache takes some ten microseconds, less than
/// handing the bytes to another thread, and the next frame cannot be read into memory before this one is gone.
pub trait Sink: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`. Not yet verified: it may be overwritten later.
    ///
    /// # Errors
    /// Whatever the storage says; the download then ends.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// All bytes of `chunk` were written and match its digest. Called once per chunk.
    ///
    /// # Errors
    /// Whatever the storage says; the download then ends.
    fn verified(&self, chunk: ChunkIndex) -> io::Result<()>;

    /// Says what an error of the calls above means: which file, and what to do.
    fn explain(&self, error: io::Error) -> SinkError;
}

/// Where a download is to stand in the end.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of the finished file. It must exist.
    pub folder: PathBuf,
    /// The name of the finished file.
    pub name: FileName,
    /// The folder of the `.part` file, on the same file system; the folder itself when absent.
    pub partial_folder: Option<PathBuf>,
    /// Whether an existing file of that name may be replaced, and a `.part` file that holds something else.
    pub replace: bool,
}

impl Place {
    /// The path of the finished file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name.as_str())
    }

    /// The path of the file while it is incomplete.
    pub fn part_path(&self) -> PathBuf {
        let folder: &Path = self.partial_folder.as_deref().unwrap_or(&self.folder);
        folder.join(format!("{}.part", self.name.as_str()))
    }
}

/// Why bytes cannot be kept. What is verified so far stays in the `.part` file.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file of that name is there already.
    #[error("{} exists already; choose another name, or allow it to be replaced", .0.display())]
    Exists(PathBuf),
    /// Another process downloads to the same `.part` file.
    #[error("{} is in use by another download; wait for it, or choose another name", .0.display())]
    Busy(PathBuf),
    /// The `.part` file is a symbolic link, a folder, a device, or has a second name.
    #[error("{} is not a plain file of its own; remove it and try again", .0.display())]
    NotPlain(PathBuf),
    /// The `.part` file holds something else, and replacing was not allowed.
    #[error("{} holds bytes of something else; remove it, choose another name, or allow it to be replaced", .0.display())]
    Foreign(PathBuf),
    /// The `.part` file was taken away, or another one put in its place, while it was in use.
    #[error("{} was moved or removed during the download; start again", .0.display())]
    Vanished(PathBuf),
    /// What is to be replaced is no plain file.
    #[error("{} is not a plain file, which alone can be replaced; choose another name", .0.display())]
    NotReplaceable(PathBuf),
    /// The `.part` file cannot be renamed to its final name.
    #[error("{} and {} are on different file systems; choose a folder for partial files beside the target", .0.display(), .1.display())]
    OtherFileSystem(PathBuf, PathBuf),
    /// No room.
    #[error("no room for {needed} bytes at {}; free some space, then start again to resume", .path.display())]
    Full {
        /// The `.part` file.
        path: PathBuf,
        /// Bytes in the whole file.
        needed: u64,
    },
    /// Anything else that the system says.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
