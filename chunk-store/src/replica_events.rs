//! Events of a store that its owner acts upon. An event that occurs while nothing waits for it is kept, once.

use tokio::sync::Notify;

/// Events of one store.
#[derive(Debug, Default)]
pub struct ReplicaEvents {
    changed: Notify,
    completed: Notify,
    missing: Notify,
}

impl ReplicaEvents {
    /// Reports that what is stored changed, so that the owner can report it.
    pub fn notify_changed(&self) {
        self.changed.notify_one();
    }

    /// Waits until what is stored changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reports that bytes may be missing that should be fetched.
    pub fn notify_missing(&self) {
        self.missing.notify_one();
    }

    /// Waits until bytes may be missing that should be fetched.
    pub async fn missing(&self) {
        self.missing.notified().await;
    }

    /// Reports that files which were withheld may count again: they are to be reported, and their SHA-256 computed if that
    /// was not done.
    pub fn notify_reconsidered(&self) {
        self.notify_completed();
    }

    /// Reports that a file is complete and its SHA-256 is to be computed.
    pub(crate) fn notify_completed(&self) {
        self.completed.notify_one();
        self.changed.notify_one();
    }

    /// Waits until a file is complete.
    pub(crate) async fn completed(&self) {
        self.completed.notified().await;
    }
}
