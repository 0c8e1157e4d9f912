//! Failures of the database that have an answer of their own, and the present one.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use database::fault::Fault;
use lifecycle::data_folder::FolderReplaced;

/// Reason why the database takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// The volume has no room.
    Full,
    /// The volume or the file may not be written.
    ReadOnly,
    /// The volume fails.
    Failing,
    /// The file is damaged.
    Damaged,
    /// The data folder is gone, or another one is in its place.
    FolderReplaced,
}

impl StorageFault {
    /// Returns the fault that a failure comes from, if it is one of storage.
    pub fn of(error: &anyhow::Error) -> Option<Self> {
        error.chain().find_map(|cause| match cause.downcast_ref() {
            Some(sqlx::Error::Io(error)) => Self::of_io(error),
            Some(error) => Fault::of(error).map(Self::from),
            None => None,
        })
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        if error.get_ref().is_some_and(|cause| cause.is::<FolderReplaced>()) {
            return Some(Self::FolderReplaced);
        }
        Some(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => return None,
        })
    }

    /// Returns the word that `/readyz` shows.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "disk full",
            Self::ReadOnly => "read-only",
            Self::Failing => "failing",
            Self::Damaged => "damaged",
            Self::FolderReplaced => "data folder gone",
        }
    }

    /// Returns what the operator is to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Full => "make room on the volume of the data folder",
            Self::ReadOnly => "make the volume and the data folder writable for this server",
            Self::Failing => "look at the volume of the data folder and at the system's log",
            Self::Damaged => "stop the server and restore a backup",
            Self::FolderReplaced => "mount the disk of the data folder again",
        }
    }
}

impl From<Fault> for StorageFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::Full,
            Fault::ReadOnly => Self::ReadOnly,
            Fault::CannotOpen | Fault::Failing => Self::Failing,
            Fault::Damaged => Self::Damaged,
        }
    }
}

/// The present fault of a database, if there is one.
#[derive(Debug, Default)]
pub(super) struct PresentFault(Mutex<Option<StorageFault>>);

impl PresentFault {
    /// Returns the fault.
    pub(super) fn get(&self) -> Option<StorageFault> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the fault; returns the one before.
    pub(super) fn replace(&self, fault: Option<StorageFault>) -> Option<StorageFault> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), fault)
    }
}

/// Returns true if a failure only means that too many requests want the database at once.
pub fn is_overloaded(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(sqlx::Error::PoolTimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_under_its_context() {
        let full = anyhow::Error::from(sqlx::Error::Io(io::ErrorKind::StorageFull.into())).context("the commit");
        assert_eq!(StorageFault::of(&full), Some(StorageFault::Full), "its context does not hide it");
        assert_eq!(StorageFault::of(&anyhow::anyhow!("full")), None);
    }
}
