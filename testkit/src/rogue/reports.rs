//! Reports of wrong bytes that a rogue receives.

use super::Rogue;

impl Rogue {
    /// Returns the chunks that were reported as wrong, in order.
    pub fn reported(&self) -> Vec<u32> {
        self.state.now().reported.clone()
    }
}

/// Returns the chunk that a request reports.
pub(super) fn reported_chunk(head: &str) -> Option<u32> {
    let path = head.strip_prefix("POST ")?.split(' ').next()?;
    path.strip_suffix("/verify")?.rsplit('/').next()?.parse().ok()
}
