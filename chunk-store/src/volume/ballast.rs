//! Space that is set aside for the removals that free a full volume: they are recorded before they are carried out, and the
//! records need space themselves.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

/// Space that is set aside: enough for the log of a database that removes thousands of files.
pub(crate) const BALLAST_BYTES: u64 = 4 << 20;

/// A file that only takes space, and is given up when nothing else is left.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(crate) fn new(data: &Path) -> Self {
        Self { path: data.join("ballast") }
    }

    /// Sets the space aside if it was not, where twice as much is `free`.
    pub(crate) fn set_aside(&self, free: u64) -> io::Result<()> {
        let is_there = fs::metadata(&self.path).is_ok_and(|found| found.len() == BALLAST_BYTES);
        if is_there || free < 2 * BALLAST_BYTES {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES) {
            // Such file systems do without.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            taken => Ok(taken?),
        }
    }

    /// Gives the space up; false when there was none.
    pub(crate) fn release(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn space_is_set_aside_where_there_is_plenty_and_given_up_once() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(folder.path());
        ballast.set_aside(2 * BALLAST_BYTES - 1).unwrap();
        assert!(!ballast.path.exists(), "not of the last space that there is");
        ballast.set_aside(2 * BALLAST_BYTES).unwrap();
        assert!(fs::metadata(&ballast.path).unwrap().blocks() * 512 >= BALLAST_BYTES);
        assert!(ballast.release().unwrap() && !ballast.release().unwrap());
        assert!(!ballast.path.exists());
    }
}
