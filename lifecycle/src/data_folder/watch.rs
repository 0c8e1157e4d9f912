//! Changes of a data folder below a running server, such as the loss of its disk.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Identity of a data folder, of files in it that stay open, and of subfolders that may be on disks of their own: all of them
/// may lose their names while a server runs.
#[derive(Debug)]
pub struct FolderWatch {
    path: PathBuf,
    folder: Identity,
    files: Vec<(PathBuf, Identity)>,
    subfolders: Mutex<Vec<(PathBuf, Identity)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// The data folder is not the one that a server began with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the one that this server began with: was its disk unmounted, or was it removed?", .0.display())]
pub struct FolderReplaced(pub(super) PathBuf);

impl FolderWatch {
    /// Notes the identity of the folder at `path` and of these files in it, as they are now.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn new(path: &Path, files: &[&str]) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let folder = Identity::at(&path)?;
        let files = files.iter().map(|name| path.join(name));
        let files = files.map(|file| Identity::at(&file).map(|identity| (file, identity)));
        Ok(Self { folder, files: files.collect::<io::Result<_>>()?, path, subfolders: Mutex::default() })
    }

    /// Watches further files of the folder.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn and_files(mut self, names: &[&str]) -> io::Result<Self> {
        for name in names {
            let file = self.path.join(name);
            self.files.push((file.clone(), Identity::at(&file)?));
        }
        Ok(self)
    }

    /// Watches subfolders. One that does not exist is watched from the time when it is remade.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn and_subfolders(self, paths: &[&Path]) -> io::Result<Self> {
        for path in paths {
            match Identity::at(path) {
                Ok(identity) => self.subfolders().push((std::path::absolute(path)?, identity)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self)
    }

    /// Compares the folder, its files and its subfolders with those of the start. A subfolder on the disk of the data folder
    /// may be absent: it was removed, and no other disk appears in its place.
    ///
    /// # Errors
    /// [`FolderReplaced`] names the one that is another, or is gone.
    pub fn check(&self) -> Result<(), FolderReplaced> {
        let is_same = |path: &Path, identity: Identity| Identity::at(path).is_ok_and(|found| found == identity);
        if !is_same(&self.path, self.folder) {
            return Err(FolderReplaced(self.path.clone()));
        }
        if let Some((file, _)) = self.files.iter().find(|(file, identity)| !is_same(file, *identity)) {
            return Err(FolderReplaced(file.clone()));
        }
        let is_usable = |path: &Path, identity: Identity| match Identity::at(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => identity.device == self.folder.device,
            found => found.is_ok_and(|found| found == identity),
        };
        match self.subfolders().iter().find(|(path, identity)| !is_usable(path, *identity)) {
            Some((path, _)) => Err(FolderReplaced(path.clone())),
            None => Ok(()),
        }
    }

    /// Makes a subfolder again that was removed, and marks and watches the new one.
    ///
    /// # Errors
    /// [`FolderReplaced`], as [`Self::check`] does, and the file system's error.
    pub fn remake_subfolder(&self, path: &Path) -> io::Result<()> {
        self.check().map_err(io::Error::other)?;
        let mut subfolders = self.subfolders();
        if path.exists() {
            return Ok(());
        }
        let path = std::path::absolute(path)?;
        fs::create_dir_all(&path)?;
        subfolders.retain(|(watched, _)| *watched != path);
        subfolders.push((path.clone(), Identity::at(&path)?));
        super::mark(&path)
    }

    fn subfolders(&self) -> MutexGuard<'_, Vec<(PathBuf, Identity)>> {
        self.subfolders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Identity {
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}
