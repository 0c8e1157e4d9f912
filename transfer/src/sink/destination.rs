//! The paths of a download.

use std::path::{Path, PathBuf};

use wire::FileName;

/// The paths of a download, before and after it is complete.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The folder of the finished file. It must exist.
    pub folder: PathBuf,
    /// The name of the finished file.
    pub name: FileName,
    /// The folder of the `.part` file, on the same file system; by default the folder of the finished file.
    pub partial_folder: Option<PathBuf>,
    /// Set if an existing file of that name may be replaced, and a `.part` file that holds something else.
    pub replace: bool,
}

impl Destination {
    /// Returns the path of the finished file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name.as_str())
    }

    /// Returns the path of the incomplete file.
    pub fn part_path(&self) -> PathBuf {
        let folder: &Path = self.partial_folder.as_deref().unwrap_or(&self.folder);
        folder.join(format!("{}.part", self.name.as_str()))
    }
}
