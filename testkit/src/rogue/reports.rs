//! Requests that a rogue receives, and reports of wrong bytes among them.

use std::{ops::Range, time::Duration};

use super::Rogue;

/// A request that was answered with bytes of the file, or was to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The bytes asked for.
    pub range: Range<u64>,
    /// Time since the rogue started.
    pub at: Duration,
}

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
