//! The folders of blobs. Every name in them is a file's id, so that nothing from outside becomes a path.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::FallocateFlags;
use wire::FileId;

/// A data folder belongs to somebody else.
#[derive(Debug, thiserror::Error)]
#[error("another file server works on {}: each needs a --data folder of its own", .0.display())]
pub(crate) struct InUse(PathBuf);

/// Where blobs lie, and the lock that keeps other processes away from them.
#[derive(Debug)]
pub(crate) struct Folder {
    files: PathBuf,
    partial: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes and locks the data folder.
    ///
    /// # Errors
    /// With what is wrong and what to do about it.
    pub(crate) fn prepare(data: &Path, partial: &Path) -> anyhow::Result<Self> {
        make_folder(data)?;
        let lock = lock(data)?;
        let files = data.join("files");
        make_folder(&files)?;
        make_folder(partial)?;
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
        anyhow::ensure!(
            device(&files)? == device(partial)?,
            "--partial-dir {} is on another file system than --data {}: a file could not be moved to its place at once",
            partial.display(),
            data.display()
        );
        sync_folder(data)?;
        Ok(Self { files, partial: partial.to_owned(), _lock: lock })
    }

    /// Whether a server works on the data folder now.
    pub(crate) fn is_in_use(data: &Path) -> io::Result<bool> {
        let Some(lock) = absent(File::open(data.join("lock")))? else { return Ok(false) };
        match lock.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Makes the preallocated file of a blob. What an attempt before it left is replaced.
    pub(super) fn make(&self, id: FileId, size: u64) -> io::Result<()> {
        // Some file systems fill the disk before they notice that it is too small.
        if self.free_bytes()? < size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = self.partial_path(id);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let made = preallocate(&file, size).and_then(|()| file.sync_all()).and_then(|()| sync_folder(&self.partial));
        if made.is_err() {
            // Give the room back; that it cannot be removed either says nothing new.
            let _ = fs::remove_file(&path);
        }
        made
    }

    /// Opens a blob wherever it is.
    pub(super) fn open(&self, id: FileId) -> io::Result<Option<File>> {
        let partial = OpenOptions::new().read(true).write(true).open(self.partial_path(id));
        match absent(partial)? {
            Some(file) => Ok(Some(file)),
            None => absent(File::open(self.final_path(id))),
        }
    }

    /// Moves a complete blob to its place, for good.
    pub(super) fn complete(&self, id: FileId) -> io::Result<()> {
        let path = self.final_path(id);
        let shard = path.parent().unwrap_or(&self.files);
        if !shard.exists() {
            fs::create_dir_all(shard)?;
            sync_folder(&self.files)?;
        }
        fs::rename(self.partial_path(id), &path)?;
        sync_folder(shard)?;
        sync_folder(&self.partial)
    }

    /// Removes a blob wherever it is. False when there was none.
    pub(super) fn remove(&self, id: FileId) -> io::Result<bool> {
        let partial = absent(fs::remove_file(self.partial_path(id)))?;
        let complete = absent(fs::remove_file(self.final_path(id)))?;
        Ok(partial.is_some() || complete.is_some())
    }

    /// The size of a complete blob, and of one still being received.
    pub(super) fn sizes(&self, id: FileId) -> io::Result<(Option<u64>, Option<u64>)> {
        let size = |path: &Path| Ok::<_, io::Error>(absent(fs::metadata(path))?.map(|found| found.len()));
        Ok((size(&self.final_path(id))?, size(&self.partial_path(id))?))
    }

    /// The blobs still being received; other names are nobody's business.
    pub(super) fn partials(&self) -> io::Result<Vec<FileId>> {
        ids(&self.partial)
    }

    /// The complete blobs.
    pub(super) fn completes(&self) -> io::Result<Vec<FileId>> {
        let mut found = Vec::new();
        for shard in fs::read_dir(&self.files)? {
            let shard = shard?;
            if shard.file_type()?.is_dir() {
                found.extend(ids(&shard.path())?);
            }
        }
        Ok(found)
    }

    /// Bytes that could still be stored.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.files)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Whether the disk takes writes.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let path = self.partial.join(".probe");
        fs::write(&path, b"ok")?;
        fs::remove_file(&path)
    }

    fn partial_path(&self, id: FileId) -> PathBuf {
        self.partial.join(id.to_string())
    }

    /// The end of a version 7 UUID is random, so its last two digits spread the blobs evenly.
    fn final_path(&self, id: FileId) -> PathBuf {
        let name = id.to_string();
        let shard = name.get(name.len().saturating_sub(2)..).unwrap_or("00").to_owned();
        self.files.join(shard).join(name)
    }
}

fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(InUse(data.to_owned()).into()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Reserves the room now, so that a full disk is met here and not in the middle of a chunk.
fn preallocate(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(size),
        other => Ok(other?),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn ids(folder: &Path) -> io::Result<Vec<FileId>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<FileId>().ok()));
    }
    Ok(found)
}
