//! The data folder of a server: its mark, and the difference between a first start and a disk that is not mounted.
//!
//! A folder on a disk that is not mounted looks like that of a first start: it is empty, or does not exist. A server that
//! began anew there would have another identity, and its data would lie on the wrong disk. So a folder is marked when it is
//! made, and an empty one without a mark is refused.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

pub use self::watch::{FolderReplaced, FolderWatch};

mod subfolders;
mod watch;

/// The file that marks a data folder.
pub const MARK: &str = ".ddm-data-folder";

const MARK_TEXT: &[u8] =
    b"This folder holds the data of a DDM server. Leave this file here: a server takes an empty folder without \
                           it for that of a disk that is not mounted.\n";
/// Folders that this process began to make: each has a name of its own until it is marked.
static MADE: AtomicU64 = AtomicU64::new(0);
/// Mode bit of a folder in which all users may make files and each may remove only files of their own.
const STICKY: u32 = 0o1000;
/// Folders that an empty data folder may contain: those of a file system of its own, and those that a server left that was
/// stopped within its first start.
const EMPTY_FOLDERS: [&str; 3] = ["lost+found", "files", "partial"];

/// A data folder that a server is about to use.
#[derive(Debug, Clone, Copy)]
pub struct DataFolder<'a> {
    /// The folder.
    pub path: &'a Path,
    /// Names that only a server makes: a folder with one of them is taken although it has no mark yet.
    pub evidence: &'a [&'a str],
    /// Mode of the folder if it is made.
    pub mode: u32,
    /// Set if a folder that looks like that of a disk that is not mounted is to be taken all the same.
    pub init: bool,
}

impl DataFolder<'_> {
    /// Makes and marks the folder if this is a first start, and marks one of an earlier version.
    ///
    /// # Errors
    /// When its disk seems not to be mounted, with what to do about it; and with the file system's error.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let path = self.path;
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.refuse_in_empty_folder(path)?;
                if !make(path, self.mode).with_context(|| format!("cannot make the folder {}", path.display()))? {
                    // Another process was faster.
                    return self.take();
                }
                tracing::info!(folder = %path.display(), "Made the data folder {}", path.display());
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("cannot use the folder {}", path.display())),
            Ok(_) => self.take(),
        }
    }

    /// Takes a folder that exists.
    fn take(&self) -> anyhow::Result<()> {
        let path = self.path;
        if path.join(MARK).exists() {
            return Ok(());
        }
        let used = self.evidence.iter().any(|name| path.join(name).exists());
        let empty = !used && is_empty(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
        if empty && !self.init {
            bail!(self.refusal(path, &format!("{} is empty and was never used", path.display())));
        }
        match mark(path) {
            // On a full disk, say. The next start marks it.
            Err(error) if used => tracing::warn!(%error, "The data folder {} could not be marked", path.display()),
            marked => marked.with_context(|| format!("cannot write into the folder {}", path.display()))?,
        }
        Ok(())
    }

    /// Refuses to make `path` in a folder that looks like the place of a disk that is not mounted.
    fn refuse_in_empty_folder(&self, path: &Path) -> anyhow::Result<()> {
        match self.suspicious_parent(path) {
            Some(parent) => {
                let finding = format!("{} does not exist, and {} is empty", path.display(), parent.display());
                bail!(self.refusal(path, &finding))
            }
            None => Ok(()),
        }
    }

    /// Returns the folder in which `path` would be made, if that folder looks like the place of a disk that is not
    /// mounted: it is empty. A place that was made just now for a first start is another matter: the working folder,
    /// and folders in those for temporary files.
    fn suspicious_parent(&self, path: &Path) -> Option<PathBuf> {
        if self.init {
            return None;
        }
        let path = std::path::absolute(path).ok()?;
        let parent = path.ancestors().skip(1).find(|ancestor| ancestor.exists())?;
        let found = fs::metadata(parent).ok()?;
        let same = |other: &Metadata| (other.dev(), other.ino()) == (found.dev(), found.ino());
        let is_here = fs::metadata(".").is_ok_and(|here| same(&here));
        let is_temporary = fs::metadata(parent.join("..")).is_ok_and(|above| above.permissions().mode() & STICKY != 0);
        let suspicious = !is_here && !is_temporary && !is_mount_point(parent) && is_empty(parent).unwrap_or(false);
        suspicious.then(|| parent.to_owned())
    }

    /// Returns the message about a folder whose disk seems not to be mounted.
    fn refusal(&self, folder: &Path, finding: &str) -> String {
        let path = self.path.display();
        let missing = std::path::absolute(folder).ok().and_then(|folder| missing_mount(&folder));
        let disk = match missing {
            Some(mount) => format!("{} is to be mounted according to {FSTAB}, and is not: mount it", mount.display()),
            None => "if it is on a disk of its own, that is not mounted: mount it".to_owned(),
        };
        format!("{finding}: {disk}; or, to begin there with no data, start once with --init (--data {path})")
    }
}

/// Returns the path of a file that a server made in its data folder; `what` is its content. Every command beside the server calls
/// it first: a folder that such a command began would be that of a mistyped `--data`.
///
/// # Errors
/// When there is no such file, with what to do.
pub fn file_of_server(data: &Path, name: &str, what: &str) -> anyhow::Result<PathBuf> {
    let path = data.join(name);
    ensure!(
        path.is_file(),
        "there is no {what} {}, so no server ever worked on this folder: name the right one with --data",
        path.display()
    );
    Ok(path)
}

/// The table of the file systems of this machine.
const FSTAB: &str = "/etc/fstab";

/// Returns the place above `path` at which a file system is to be mounted and is not.
fn missing_mount(path: &Path) -> Option<PathBuf> {
    let table = fs::read_to_string(FSTAB).ok()?;
    mount_points(&table).into_iter().find(|place| path.starts_with(place) && !is_mount_point(place))
}

/// Returns the mount points that a table of file systems names, the deepest first, without the root.
fn mount_points(table: &str) -> Vec<PathBuf> {
    let places = table.lines().filter(|line| !line.trim_start().starts_with('#'));
    let places = places.filter_map(|line| line.split_whitespace().nth(1)).filter(|place| place.len() > 1);
    // Spaces in names are written as octal numbers.
    let mut places: Vec<PathBuf> = places.map(|place| place.replace("\\040", " ").into()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.components().count()));
    places
}

/// Returns true if a file system is mounted at `path`.
fn is_mount_point(path: &Path) -> bool {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    if let Ok(found) = found
        && found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    }
    // Before Linux 5.8.
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    device(path) != device(&path.join(".."))
}

/// Returns true if a folder contains nothing that matters.
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_kept = entry.file_type()?.is_dir() && EMPTY_FOLDERS.iter().any(|folder| name == **folder);
        let is_lock = name == "lock" && entry.metadata()?.len() == 0;
        if is_kept && name != "lost+found" && fs::read_dir(entry.path())?.next().is_some() {
            return Ok(false);
        }
        if !is_kept && !is_lock {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a marked folder in one step: a crash leaves none without a mark. False when another process made it meanwhile.
fn make(path: &Path, mode: u32) -> io::Result<bool> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.new", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let aside = path.with_file_name(name);
    let builder = |recursive| {
        let mut builder = DirBuilder::new();
        builder.recursive(recursive).mode(mode);
        builder
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        builder(true).create(parent)?;
    }
    // Remains of a process with the same number.
    let _ = fs::remove_dir_all(&aside);
    builder(false).create(&aside)?;
    let made = mark(&aside).and_then(|()| fs::rename(&aside, path));
    match made {
        Ok(()) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()?;
            Ok(true)
        }
        Err(error) => {
            let _ = fs::remove_dir_all(&aside);
            match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Ok(false),
                _ => Err(error),
            }
        }
    }
}

fn mark(folder: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(folder.join(MARK))?;
    file.write_all(MARK_TEXT)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
