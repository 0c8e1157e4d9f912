//! Uploads that were begun and not finished: the same command goes on with what is missing.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use lifecycle::private_file;
use serde::{Deserialize, Serialize};
use url::Url;
use wire::{
    Digest,
    catalog::{NewFile, UploadPlan},
};

/// More than a plan with its targets takes.
const MAX_LEN: u64 = 1 << 20;

/// The note of one upload, locked: mode 0600, as the plan holds the right to write. It is a hint: one that is torn, or of a
/// file that has changed since, is as good as none.
#[derive(Debug)]
pub(super) struct Unfinished {
    note: File,
    path: PathBuf,
    stamp: Stamp,
}

/// What tells that a file is the very one that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Stamp {
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
    stamp: Stamp,
    new: NewFile,
    plan: UploadPlan,
}

/// What was found of an earlier try.
pub(super) struct Found {
    pub(super) plan: UploadPlan,
    /// Whether it is an upload of the same file in the same way.
    pub(super) same: bool,
}

impl Unfinished {
    /// Opens the note for publishing `path` at `info` under a name; none where notes cannot be kept.
    ///
    /// # Errors
    /// When another process is publishing it.
    pub(super) fn open(info: &Url, path: &Path, new: &NewFile, file: &File) -> anyhow::Result<Option<Self>> {
        let Some(folder) = folder() else { return Ok(None) };
        let stamp = Stamp::from(&file.metadata()?);
        let key = format!("{info}\0{}\0{}", fs::canonicalize(path)?.display(), new.name);
        let kept = folder.join(format!("{}.json", Digest::of(key.as_bytes())));
        match open_private(&folder, &kept) {
            Ok(note) => match note.try_lock() {
                Ok(()) => Ok(Some(Self { note, path: kept, stamp })),
                Err(TryLockError::WouldBlock) => bail!("another process is publishing it; wait for it to end"),
                Err(TryLockError::Error(error)) => {
                    Err(error).with_context(|| format!("cannot lock {}", kept.display()))
                }
            },
            Err(error) => {
                tracing::warn!("an interrupted upload will begin anew: cannot write {}: {error}", kept.display());
                Ok(None)
            }
        }
    }

    /// What an earlier try left.
    pub(super) fn read(&self, new: &NewFile) -> Option<Found> {
        let mut text = Vec::new();
        (&self.note).take(MAX_LEN).read_to_end(&mut text).ok()?;
        let Content { stamp, new: old, plan } = serde_json::from_slice(&text).ok()?;
        Some(Found { plan, same: stamp == self.stamp && old == *new })
    }

    /// Notes an upload that begins.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn keep(&self, new: &NewFile, plan: &UploadPlan) -> io::Result<()> {
        let content = Content { stamp: self.stamp.clone(), new: new.clone(), plan: plan.clone() };
        let text = serde_json::to_vec(&content)?;
        self.note.set_len(0)?;
        self.note.write_all_at(&text, 0)?;
        self.note.sync_data()
    }

    /// There is nothing to go on with.
    pub(super) fn forget(self) {
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

/// `ddm/uploads` in the user's folder for states.
fn folder() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "ddm")?;
    Some(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).join("uploads"))
}
