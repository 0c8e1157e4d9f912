//! Operations on folders and files that know nothing of blobs.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::FallocateFlags;
use wire::FileId;

/// Reserves the space now, so that a full disk is noticed here and not in the middle of a chunk.
pub(super) fn preallocate(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(size),
        other => Ok(other?),
    }
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Turns "not found" into `None`.
pub(super) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the ids among the names in a folder.
pub(super) fn ids(folder: &Path) -> io::Result<Vec<FileId>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<FileId>().ok()));
    }
    Ok(found)
}
