//! Subfolders of a data folder that may be on disks of their own. Each has a mark of its own, and the data folder records which
//! have one, so that a subfolder that is empty because its disk is not mounted differs from one of an earlier version.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail};

use super::{DataFolder, MARK, is_empty, mark, missing_mount};

/// The file of a data folder that records its marked subfolders: one line each, with the inode and the path.
const RECORD: &str = ".ddm-subfolders";

/// Recorded subfolder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subfolder {
    inode: u64,
    /// Relative to the data folder, if it is inside.
    path: String,
}

impl DataFolder<'_> {
    /// Makes and marks subfolders, and marks those of an earlier version.
    ///
    /// # Errors
    /// When the disk of one of them seems not to be mounted, with what to do about it; and with the file system's error.
    pub fn prepare_subfolders(&self, paths: &[&Path]) -> anyhow::Result<()> {
        let recorded = read(self.path).with_context(|| format!("cannot read {RECORD} in {}", self.path.display()))?;
        let mut found = Vec::new();
        for path in paths {
            let name = path.strip_prefix(self.path).unwrap_or(path).to_string_lossy().into_owned();
            let known = recorded.iter().find(|subfolder| subfolder.path == name);
            self.prepare_subfolder(path, known)?;
            match mark_if_needed(path) {
                Ok(inode) => found.push(Subfolder { inode, path: name }),
                // On a full disk, say. The next start marks it.
                Err(error) => {
                    tracing::warn!(%error, folder = %path.display(), "The folder {} could not be marked", path.display());
                }
            }
        }
        if found != recorded
            && let Err(error) = write(self.path, &found)
        {
            tracing::warn!(%error, "The marks of the folders in {} could not be recorded", self.path.display());
        }
        Ok(())
    }

    /// Makes a subfolder, or refuses one whose disk seems not to be mounted.
    fn prepare_subfolder(&self, path: &Path, known: Option<&Subfolder>) -> anyhow::Result<()> {
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if known.is_some() {
                    self.refuse_in_empty_folder(path)?;
                }
                let made = DirBuilder::new().recursive(true).mode(self.mode).create(path);
                return made.with_context(|| format!("cannot make the folder {}", path.display()));
            }
            found => found.with_context(|| format!("cannot use the folder {}", path.display()))?,
        };
        let is_another = match known {
            // One with the same inode was only emptied.
            Some(known) => known.inode != found.ino(),
            None => self.lacks_mount(path),
        };
        if is_another
            && !self.init
            && !path.join(MARK).exists()
            && is_empty(path).with_context(|| format!("cannot read the folder {}", path.display()))?
        {
            bail!(self.refusal(path, &format!("{} is empty and has no mark", path.display())));
        }
        Ok(())
    }

    /// Returns true if the table of file systems names a mount below the data folder for `path` that is missing.
    fn lacks_mount(&self, path: &Path) -> bool {
        let (Ok(data), Ok(path)) = (std::path::absolute(self.path), std::path::absolute(path)) else { return false };
        missing_mount(&path).is_some_and(|mount| mount != data && mount.starts_with(&data))
    }
}

/// Marks a subfolder without a mark. Returns its inode.
fn mark_if_needed(path: &Path) -> io::Result<u64> {
    if !path.join(MARK).exists() {
        mark(path)?;
    }
    Ok(fs::metadata(path)?.ino())
}

fn read(data: &Path) -> io::Result<Vec<Subfolder>> {
    let text = match fs::read(data.join(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines
        .filter_map(|(inode, path)| Some(Subfolder { inode: inode.parse().ok()?, path: path.to_owned() }))
        .collect())
}

/// Replaces the record in one step.
fn write(data: &Path, subfolders: &[Subfolder]) -> io::Result<()> {
    let lines = subfolders.iter().map(|Subfolder { inode, path }| format!("{inode} {path}\n"));
    let new = data.join(format!("{RECORD}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
    file.write_all(lines.collect::<String>().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, data.join(RECORD))?;
    File::open(data)?.sync_all()
}
