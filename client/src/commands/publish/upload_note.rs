//! Notes of unfinished uploads, so that the same command resumes them.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::bail;
use lifecycle::private_file;
use serde::{Deserialize, Serialize};
use url::Url;
use wire::{
    Digest,
    catalogue::{NewFile, UploadPlan},
};

/// Longest note that is read, in bytes; a plan with its targets is shorter.
const MAX_NOTE_LEN: u64 = 1 << 20;

/// Locked note of one upload. Its mode is 0600: the plan contains an upload token. It is a hint: a torn note, or one of a file
/// that changed since, counts as none.
#[derive(Debug)]
pub(super) struct UploadNote {
    file: File,
    path: PathBuf,
    stamp: FileStamp,
}

/// Identity of the version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    stamp: FileStamp,
    new: NewFile,
    plan: UploadPlan,
}

/// Upload of an earlier run.
pub(super) struct EarlierUpload {
    pub(super) plan: UploadPlan,
    /// Set if the file and the options are the same as now.
    pub(super) is_same_file: bool,
}

impl UploadNote {
    /// Opens the note for publishing `path` at `info`. None when notes cannot be stored.
    ///
    /// # Errors
    /// When another process publishes the same file.
    pub(super) fn open(info: &Url, path: &Path, new: &NewFile, file: &File) -> anyhow::Result<Option<Self>> {
        let Some(folder) = folder() else { return Ok(None) };
        let stamp = FileStamp::from(&file.metadata()?);
        let key = format!("{info}\0{}\0{}", fs::canonicalize(path)?.display(), new.name);
        let note_path = folder.join(format!("{}.json", Digest::of(key.as_bytes())));
        match open_private(&folder, &note_path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(Some(Self { file, path: note_path, stamp })),
                Err(TryLockError::WouldBlock) => bail!("another process is publishing it; wait until it ends"),
                // Without locks two processes could write one note.
                Err(TryLockError::Error(error)) => {
                    tracing::warn!("the upload will not be resumable: cannot lock {}: {error}", note_path.display());
                    Ok(None)
                }
            },
            Err(error) => {
                tracing::warn!("the upload will not be resumable: cannot write {}: {error}", note_path.display());
                Ok(None)
            }
        }
    }

    /// Returns true if an earlier run began an upload.
    pub(super) fn is_written(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() > 0)
    }

    /// Reads the upload of an earlier run.
    pub(super) fn read(&self, new: &NewFile) -> Option<EarlierUpload> {
        let mut text = Vec::new();
        (&self.file).take(MAX_NOTE_LEN).read_to_end(&mut text).ok()?;
        let Content { stamp, new: old, plan } = serde_json::from_slice(&text).ok()?;
        Some(EarlierUpload { plan, is_same_file: stamp == self.stamp && old == *new })
    }

    /// Stores the plan of an upload that starts.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn store(&self, new: &NewFile, plan: &UploadPlan) -> io::Result<()> {
        let content = Content { stamp: self.stamp.clone(), new: new.clone(), plan: plan.clone() };
        let text = serde_json::to_vec(&content)?;
        self.file.set_len(0)?;
        self.file.write_all_at(&text, 0)?;
        self.file.sync_data()
    }

    /// Removes the note: the upload is complete, or cannot be resumed.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn open_private(folder: &Path, path: &Path) -> io::Result<File> {
    private_file::make_folder(folder)?;
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().try_into().map_err(io::Error::other)?;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Returns `ddm/uploads` in the user's state folder.
fn folder() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "ddm")?;
    Some(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).join("uploads"))
}
