//! A snapshot of the event log that is read page by page.

use std::sync::{Arc, Mutex, PoisonError};

use wire::event::LogHeader;

use super::lines::Lines;

/// Rest of a snapshot whose first pages were read. A snapshot has no valid position before its end, so that its rest cannot be
/// requested: the open answer itself is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenSnapshot(Arc<Mutex<Option<Snapshot>>>);

/// Snapshot whose first pages were read.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) header: LogHeader,
    pub(super) lines: Lines,
}

impl OpenSnapshot {
    pub(super) fn take(&self) -> Option<Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn keep(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
