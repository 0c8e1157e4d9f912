//! A folder that several replicas share: each works in the first slot of it that no other one has locked.
//!
//! A slot holds identity and data, so the replicas are the same servers after a restart, whichever process takes which.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::blobs::{Folder, InUse};

/// The most replicas that can share one folder.
const MOST: u32 = 1024;

/// Makes and locks the first free slot; answers its data folder too.
///
/// # Errors
/// When a slot cannot be made or used for another reason than that somebody uses it.
pub(crate) fn take(slots: &Path) -> anyhow::Result<(PathBuf, Folder)> {
    for number in 1..=MOST {
        let data = slots.join(format!("slot-{number}"));
        match Folder::prepare(&data, &data.join("partial")) {
            Ok(folder) => return Ok((data, folder)),
            Err(error) if error.is::<InUse>() => {}
            Err(error) => return Err(error),
        }
    }
    bail!("all {MOST} slots of {} are in use", slots.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_the_first_free_slot_and_a_freed_one_is_taken_again() {
        let slots = tempfile::tempdir().unwrap();
        let slot = |n: u32| slots.path().join(format!("slot-{n}"));
        let (first, first_lock) = take(slots.path()).unwrap();
        let (second, _second_lock) = take(slots.path()).unwrap();
        assert_eq!((first, second), (slot(1), slot(2)));
        drop(first_lock);
        let (again, _again_lock) = take(slots.path()).unwrap();
        let (third, _third_lock) = take(slots.path()).unwrap();
        assert_eq!((again, third), (slot(1), slot(3)));
    }

    #[test]
    fn replicas_that_start_at_once_never_share_a_slot() {
        let slots = tempfile::tempdir().unwrap();
        let mut taken: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| take(slots.path()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        taken.sort_by(|(one, _), (other, _)| one.cmp(other));
        taken.dedup_by(|(one, _), (other, _)| one == other);
        assert_eq!(taken.len(), 8);
    }

    #[test]
    fn a_slot_that_cannot_be_used_is_named() {
        let slots = tempfile::tempdir().unwrap();
        std::fs::write(slots.path().join("slot-1"), b"not a folder").unwrap();
        assert!(format!("{:#}", take(slots.path()).unwrap_err()).contains("slot-1"));
    }
}
