//! The folders that hold blobs. Every name in them is a file's id, so that nothing from outside becomes a path.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use lifecycle::{
    data_folder::{DataFolder, FolderReplaced, FolderWatch},
    folder_lock::{FolderLock, LOCK_FILE_NAME},
};
use rustix::fs::FallocateFlags;
use wire::FileId;

use self::folders::{absent, ids, preallocate, sync_folder};
use crate::{Reserve, volume::ballast::Ballast};

mod folders;
mod space;

/// Space that a new blob takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Space of the whole file: no later write fails for lack of it.
    Full,
    /// None: only some chunks of the file are going to be stored.
    Sparse,
}

/// The folders of one store, and the lock that keeps other processes away from them.
#[derive(Debug)]
pub struct BlobDirectory {
    files: PathBuf,
    partial: PathBuf,
    /// Space that stays free.
    reserve: Reserve,
    /// The lock, unless this process works beside its owner.
    lock: Option<FolderLock>,
    /// A file of the folder, which is on its volume.
    volume_file: File,
    watch: FolderWatch,
    ballast: Ballast,
}

/// Sizes of a blob on disk, where it exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobSizes {
    pub(crate) complete: Option<u64>,
    pub(crate) partial: Option<u64>,
}

/// An open blob without a record.
#[derive(Debug)]
pub(crate) struct Stray {
    pub(crate) file: File,
    /// Set if it has the name of a complete blob.
    pub(crate) complete: bool,
}

/// Identity of a file on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(crate) fn of(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), number: found.ino() }
    }
}

impl BlobDirectory {
    /// Locks a data folder; makes it at the first start.
    ///
    /// # Errors
    /// With what is wrong and what to do about it.
    pub fn create_and_lock(folder: &DataFolder<'_>, partial: &Path) -> anyhow::Result<Self> {
        folder.prepare()?;
        let data = folder.path;
        let lock = FolderLock::acquire(data)?;
        let files = data.join("files");
        folder.prepare_subfolders(&[&files, partial])?;
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
        anyhow::ensure!(
            device(&files)? == device(partial)?,
            "--partial-dir {} is on another file system than --data {}: choose one on the same, as complete files are renamed",
            partial.display(),
            data.display()
        );
        sync_folder(data)?;
        let watch = FolderWatch::new(data, &[LOCK_FILE_NAME])?.and_subfolders(&[&files, partial])?;
        let ballast = Ballast::new(data);
        let reserve = Reserve::default();
        let volume_file = lock.file().try_clone()?;
        Ok(Self { files, partial: partial.to_owned(), reserve, lock: Some(lock), volume_file, watch, ballast })
    }

    /// Opens the folders without the lock, which a running process may hold: to read, and for blobs that it does not use.
    ///
    /// # Errors
    /// When no store was ever made there.
    pub fn open_unlocked(data: &Path, partial: &Path) -> io::Result<Self> {
        let volume_file = File::open(data.join(LOCK_FILE_NAME))?;
        let files = data.join("files");
        let watch = FolderWatch::new(data, &[LOCK_FILE_NAME])?.and_subfolders(&[&files, partial])?;
        let (reserve, ballast) = (Reserve::default(), Ballast::new(data));
        Ok(Self { files, partial: partial.to_owned(), reserve, lock: None, volume_file, watch, ballast })
    }

    /// Watches further files of the owner in the data folder: see [`Self::check`].
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn watch_files(self, names: &[&str]) -> io::Result<Self> {
        Ok(Self { watch: self.watch.and_files(names)?, ..self })
    }

    /// Checks that the data folder, the folders of blobs and the watched files are those of the start. Otherwise what is
    /// written now is not there after a restart.
    ///
    /// # Errors
    /// When another folder is there, or none.
    pub fn check(&self) -> Result<(), FolderReplaced> {
        self.watch.check()
    }

    /// The same, for a step that works with names.
    fn check_io(&self) -> io::Result<()> {
        self.check().map_err(io::Error::other)
    }

    /// Sets the part of the volume that stays free.
    #[must_use]
    pub fn with_reserve(mut self, reserve: Reserve) -> Self {
        self.reserve = reserve;
        self
    }

    /// Returns true if the lock keeps other processes away.
    pub fn is_locked(&self) -> bool {
        self.lock.as_ref().is_some_and(FolderLock::is_effective)
    }

    /// Creates the file of a blob. The remains of an earlier attempt are replaced, not truncated.
    pub(crate) fn create(&self, id: FileId, size: u64, allocation: Allocation) -> io::Result<()> {
        // Some file systems fill the disk before they notice that it is too small.
        if allocation == Allocation::Full && self.free_bytes()? < size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.make_partial_folder()?;
        let path = self.partial_path(id);
        absent(fs::remove_file(&path))?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let created = match allocation {
            Allocation::Full => preallocate(&file, size),
            Allocation::Sparse => file.set_len(size),
        };
        let created = created.and_then(|()| file.sync_all()).and_then(|()| sync_folder(&self.partial));
        if created.is_err() {
            // Releases the space; a second failure adds nothing.
            let _ = fs::remove_file(&path);
        }
        created
    }

    /// Opens a blob, complete or partial; `None` when there is none.
    ///
    /// # Errors
    /// When it exists and cannot be opened.
    pub fn open(&self, id: FileId) -> io::Result<Option<File>> {
        let partial = OpenOptions::new().read(true).write(true).open(self.partial_path(id));
        match absent(partial)? {
            Some(file) => Ok(Some(file)),
            None => self.open_final(id),
        }
    }

    /// Opens a complete blob, also to write: a chunk that turns out to be corrupt is fetched again.
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

    /// Returns true if a blob of `size` exists, complete or partial.
    pub(crate) fn has(&self, id: FileId, size: u64) -> io::Result<bool> {
        let has_size = |found: BlobSizes| found.partial.or(found.complete) == Some(size);
        // Twice: it may be moved between the two look-ups of one call.
        Ok(has_size(self.sizes(id)?) || has_size(self.sizes(id)?))
    }

    /// Returns the file under the name of a blob, complete or partial, as [`Self::open`] would open it.
    pub(crate) fn inode(&self, id: FileId) -> io::Result<Option<Inode>> {
        let look = |path: &Path| Ok::<_, io::Error>(absent(fs::metadata(path))?.map(|found| Inode::of(&found)));
        Ok(match look(&self.partial_path(id))? {
            Some(inode) => Some(inode),
            None => look(&self.final_path(id))?,
        })
    }

    /// Moves a blob that is not complete any more back to the partial ones.
    pub(crate) fn reopen(&self, id: FileId) -> io::Result<()> {
        let path = self.final_path(id);
        self.make_partial_folder()?;
        if absent(fs::rename(&path, self.partial_path(id)))?.is_some() {
            sync_folder(&self.partial)?;
            sync_folder(path.parent().unwrap_or(&self.files))?;
        }
        Ok(())
    }

    /// Releases the space of `bytes` of a partial blob: nothing that counts is there.
    pub(crate) fn release(&self, id: FileId, bytes: &[Range<u64>]) -> io::Result<()> {
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

    /// Moves a complete blob to its final place.
    pub(crate) fn complete(&self, id: FileId) -> io::Result<()> {
        self.watch.remake_subfolder(&self.files)?;
        let path = self.final_path(id);
        let shard = path.parent().unwrap_or(&self.files);
        if !shard.exists() {
            fs::create_dir_all(shard)?;
            sync_folder(&self.files)?;
        }
        // Without a partial blob it was moved before.
        if absent(fs::rename(self.partial_path(id), &path))?.is_none() {
            fs::metadata(&path)?;
        }
        sync_folder(shard)?;
        sync_folder(&self.partial)
    }

    /// Removes a blob, complete or partial; false when there was none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, id: FileId) -> io::Result<bool> {
        self.check_io()?;
        let partial = absent(fs::remove_file(self.partial_path(id)))?;
        let complete = absent(fs::remove_file(self.final_path(id)))?;
        Ok(partial.is_some() || complete.is_some())
    }

    /// Removes what was begun of a blob that is complete.
    pub(crate) fn remove_partial(&self, id: FileId) -> io::Result<()> {
        self.check_io()?;
        absent(fs::remove_file(self.partial_path(id))).map(drop)
    }

    /// Opens a blob without a record to read it, a complete one first.
    pub(crate) fn open_stray(&self, id: FileId) -> io::Result<Option<Stray>> {
        match absent(File::open(self.final_path(id)))? {
            Some(file) => Ok(Some(Stray { file, complete: true })),
            None => Ok(absent(File::open(self.partial_path(id)))?.map(|file| Stray { file, complete: false })),
        }
    }

    /// Returns the sizes on disk of a blob.
    pub(crate) fn sizes(&self, id: FileId) -> io::Result<BlobSizes> {
        let size = |path: &Path| Ok::<_, io::Error>(absent(fs::metadata(path))?.map(|found| found.len()));
        Ok(BlobSizes { complete: size(&self.final_path(id))?, partial: size(&self.partial_path(id))? })
    }

    /// Returns the partial blobs; files with other names are ignored.
    pub(crate) fn partials(&self) -> io::Result<Vec<FileId>> {
        ids(&self.partial)
    }

    /// Returns the complete blobs.
    pub(crate) fn completes(&self) -> io::Result<Vec<FileId>> {
        let mut found = Vec::new();
        for shard in fs::read_dir(&self.files)? {
            let shard = shard?;
            if shard.file_type()?.is_dir() {
                found.extend(ids(&shard.path())?);
            }
        }
        Ok(found)
    }

    /// Writes and syncs a few bytes.
    pub(crate) fn probe(&self) -> io::Result<()> {
        self.make_partial_folder()?;
        // Without a name: nothing is left of it, and it never shows among the blobs.
        let file = tempfile::tempfile_in(&self.partial)?;
        file.write_all_at(b"ok", 0).and_then(|()| file.sync_data())
    }

    /// Makes the folder of partial blobs, which may have been removed while the process runs. Not on another disk: if the
    /// data folder or one in it lost its disk, the names in it lead to the one below.
    fn make_partial_folder(&self) -> io::Result<()> {
        self.watch.remake_subfolder(&self.partial)
    }

    fn partial_path(&self, id: FileId) -> PathBuf {
        self.partial.join(id.to_string())
    }

    /// Returns the path of a complete blob. The end of a version 7 UUID is random, so its last two digits spread the blobs
    /// evenly.
    fn final_path(&self, id: FileId) -> PathBuf {
        let name = id.to_string();
        let shard = name.get(name.len().saturating_sub(2)..).unwrap_or("00").to_owned();
        self.files.join(shard).join(name)
    }
}
