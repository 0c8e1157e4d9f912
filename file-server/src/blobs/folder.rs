//! The folders of blobs. Every name in them is a file's id, so that nothing from outside becomes a path.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::FallocateFlags;
use wire::FileId;

use crate::volume::Reserve;

/// A data folder belongs to somebody else.
#[derive(Debug, thiserror::Error)]
#[error("another file server works on {}: each needs a --data folder of its own", .0.display())]
pub(crate) struct InUse(PathBuf);

/// How much room a new blob takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// As much as the whole file needs: no later write fails for want of it.
    ForAll,
    /// None: only part of the file is going to be here.
    AsItComes,
}

/// Where blobs lie, and the lock that keeps other processes away from them.
#[derive(Debug)]
pub(crate) struct Folder {
    files: PathBuf,
    partial: PathBuf,
    /// What is to stay free for others.
    reserve: Reserve,
    lock_file: File,
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
        Ok(Self { files, partial: partial.to_owned(), reserve: Reserve::default(), lock_file: lock })
    }

    /// The folders of a server that may run on them: for a look, and for blobs that nobody works with.
    ///
    /// # Errors
    /// When no server ever worked there.
    pub(crate) fn beside(data: &Path, partial: &Path) -> io::Result<Self> {
        let lock_file = File::open(data.join("lock"))?;
        Ok(Self { files: data.join("files"), partial: partial.to_owned(), reserve: Reserve::default(), lock_file })
    }

    /// Leaves this much of the volume free.
    pub(crate) fn keep_free(mut self, reserve: Reserve) -> Self {
        self.reserve = reserve;
        self
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

    /// Makes the file of a blob. What an attempt before it left is replaced.
    pub(super) fn make(&self, id: FileId, size: u64, room: Room) -> io::Result<()> {
        // Some file systems fill the disk before they notice that it is too small.
        if room == Room::ForAll && self.free_bytes()? < size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // It may have been wiped while we run.
        fs::create_dir_all(&self.partial)?;
        let path = self.partial_path(id);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let made = match room {
            Room::ForAll => preallocate(&file, size),
            Room::AsItComes => file.set_len(size),
        };
        let made = made.and_then(|()| file.sync_all()).and_then(|()| sync_folder(&self.partial));
        if made.is_err() {
            // Give the room back; that it cannot be removed either says nothing new.
            let _ = fs::remove_file(&path);
        }
        made
    }

    /// Opens a blob wherever it is.
    pub(crate) fn open(&self, id: FileId) -> io::Result<Option<File>> {
        let partial = OpenOptions::new().read(true).write(true).open(self.partial_path(id));
        match absent(partial)? {
            Some(file) => Ok(Some(file)),
            None => self.open_final(id),
        }
    }

    /// Also to write: a chunk that turns out to be spoiled is fetched again.
    fn open_final(&self, id: FileId) -> io::Result<Option<File>> {
        let path = self.final_path(id);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) =>
            {
                absent(File::open(path))
            }
            opened => absent(opened),
        }
    }

    /// Whether the bytes of a blob of `size` are where they should be.
    pub(super) fn has(&self, id: FileId, size: u64) -> io::Result<bool> {
        let there = |(complete, partial): (Option<u64>, Option<u64>)| partial.or(complete) == Some(size);
        // Twice: it may be moved between the two looks of one.
        Ok(there(self.sizes(id)?) || there(self.sizes(id)?))
    }

    /// Moves a blob that is not complete any more back to those being received.
    pub(super) fn take_back(&self, id: FileId) -> io::Result<()> {
        let path = self.final_path(id);
        fs::create_dir_all(&self.partial)?;
        if absent(fs::rename(&path, self.partial_path(id)))?.is_some() {
            sync_folder(&self.partial)?;
            sync_folder(path.parent().unwrap_or(&self.files))?;
        }
        Ok(())
    }

    /// Gives the room of `bytes` of a blob being received back: nothing that counts is there.
    pub(super) fn release(&self, id: FileId, bytes: &[Range<u64>]) -> io::Result<()> {
        let Some(file) = absent(OpenOptions::new().write(true).open(self.partial_path(id)))? else { return Ok(()) };
        for range in bytes.iter().filter(|range| !range.is_empty()) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&file, flags, range.start, range.end - range.start) {
                Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
                released => released?,
            }
        }
        Ok(())
    }

    /// Moves a complete blob to its place, for good.
    pub(super) fn complete(&self, id: FileId) -> io::Result<()> {
        let path = self.final_path(id);
        let shard = path.parent().unwrap_or(&self.files);
        if !shard.exists() {
            fs::create_dir_all(shard)?;
            sync_folder(&self.files)?;
        }
        // Without one to move it was moved before.
        if absent(fs::rename(self.partial_path(id), &path))?.is_none() {
            fs::metadata(&path)?;
        }
        sync_folder(shard)?;
        sync_folder(&self.partial)
    }

    /// Removes a blob wherever it is. False when there was none.
    pub(crate) fn remove(&self, id: FileId) -> io::Result<bool> {
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
        let (free, reserved) = self.room()?;
        Ok(free.saturating_sub(reserved))
    }

    /// Whether there is less room than is to stay free.
    pub(crate) fn is_low(&self) -> io::Result<bool> {
        let (free, reserved) = self.room()?;
        Ok(free < reserved)
    }

    /// Bytes that are free, and those that are to stay so.
    fn room(&self) -> io::Result<(u64, u64)> {
        // The folders may have been wiped; the lock lies on the same file system and is open.
        let found = rustix::fs::fstatvfs(&self.lock_file)?;
        let of = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok((of(found.f_bavail), self.reserve.of(of(found.f_blocks))))
    }

    /// Whether the disk takes writes.
    pub(crate) fn probe(&self) -> io::Result<()> {
        fs::create_dir_all(&self.partial)?;
        // Without a name: nothing is left of it, and nobody sees it among the blobs.
        let file = tempfile::tempfile_in(&self.partial)?;
        file.write_all_at(b"ok", 0).and_then(|()| file.sync_data())
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
