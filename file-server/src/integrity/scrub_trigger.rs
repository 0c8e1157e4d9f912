//! Requests to verify everything stored, now.

use std::sync::Arc;

use tokio::sync::Notify;

/// Starts a round that verifies everything stored. Clones are the same trigger.
#[derive(Debug, Clone, Default)]
pub struct ScrubTrigger(Arc<Notify>);

impl ScrubTrigger {
    /// Starts a round; a running one begins anew.
    pub fn start_round(&self) {
        self.0.notify_one();
    }

    /// Waits until a round is to start.
    pub(crate) async fn triggered(&self) {
        self.0.notified().await;
    }
}
