//! A folder that several servers share: each works in the first slot that no other one has locked.
//!
//! A slot holds identity and data, so the servers keep their identities after a restart, whichever process takes which slot.

use std::path::{Path, PathBuf};

use anyhow::bail;

use chunk_store::BlobDirectory;
use lifecycle::folder_lock::FolderLockError;

use crate::config::data_folder;

/// Servers that can share one folder.
const MAX_SLOTS: u32 = 1024;

/// A locked data folder.
#[derive(Debug)]
pub(crate) struct DataFolder {
    pub(crate) data: PathBuf,
    pub(crate) directory: BlobDirectory,
}

/// Locks the first free slot; makes it if there is none.
///
/// # Errors
/// When a slot cannot be created or locked for another reason than that a process uses it.
pub(crate) fn lock_first_free(slots: &Path, init: bool) -> anyhow::Result<DataFolder> {
    for number in 1..=MAX_SLOTS {
        let data = slots.join(format!("slot-{number}"));
        match BlobDirectory::create_and_lock(&data_folder(&data, init), &data.join("partial")) {
            Ok(directory) if directory.is_locked() => return Ok(DataFolder { data, directory }),
            // A second server would take the same slot.
            Ok(_) => bail!(
                "the file system of {} has no locks (flock), and --slots needs them: name a folder for each server with --data",
                slots.display()
            ),
            Err(error) if matches!(error.downcast_ref(), Some(FolderLockError::InUse(_))) => {}
            Err(error) => return Err(error),
        }
    }
    bail!("all {MAX_SLOTS} slots of {} are in use: name another folder with --slots", slots.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_the_first_free_slot_and_a_freed_one_is_taken_again() {
        let slots = tempfile::tempdir().unwrap();
        let slot = |n: u32| slots.path().join(format!("slot-{n}"));
        let lock = || lock_first_free(slots.path(), false).unwrap();
        let (first, second) = (lock(), lock());
        assert_eq!((&first.data, &second.data), (&slot(1), &slot(2)));
        drop(first);
        let (again, third) = (lock(), lock());
        assert_eq!((again.data, third.data), (slot(1), slot(3)));
    }

    #[test]
    fn servers_that_start_at_once_never_share_a_slot() {
        let slots = tempfile::tempdir().unwrap();
        let mut taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| lock_first_free(slots.path(), false).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        taken.sort_by(|one, other| one.data.cmp(&other.data));
        taken.dedup_by(|one, other| one.data == other.data);
        assert_eq!(taken.len(), 8);
    }

    #[test]
    fn a_slot_that_cannot_be_used_is_named() {
        let slots = tempfile::tempdir().unwrap();
        std::fs::write(slots.path().join("slot-1"), b"not a folder").unwrap();
        assert!(format!("{:#}", lock_first_free(slots.path(), false).unwrap_err()).contains("slot-1"));
    }
}
