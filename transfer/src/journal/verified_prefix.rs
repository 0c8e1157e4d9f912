//! The verified chunks at the beginning of a file. Their digests are known to a joint download alone, so its journal stores a digest of
//! them: with it a direct download of the same URL verifies these chunks again and continues behind them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::{Digest, Hasher};

/// Number and digests of the verified chunks before the first gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifiedPrefix {
    /// Number of chunks.
    pub(crate) chunks: u32,
    /// SHA-256 of their concatenated digests.
    pub(crate) root: Digest,
}

/// Computes the prefix while chunks are verified in any order.
#[derive(Debug, Default)]
pub(super) struct PrefixTracker {
    chunks: u32,
    root: Hasher,
    /// Digests of chunks behind the first gap.
    beyond: BTreeMap<u32, Digest>,
}

impl PrefixTracker {
    pub(super) fn add(&mut self, n: u32, digest: Digest) {
        if n >= self.chunks {
            self.beyond.insert(n, digest);
        }
        while let Some(digest) = self.beyond.remove(&self.chunks) {
            self.root.update(digest.as_bytes());
            self.chunks += 1;
        }
    }

    pub(super) fn prefix(&self) -> VerifiedPrefix {
        VerifiedPrefix { chunks: self.chunks, root: self.root.clone().finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_ends_before_the_first_gap_whatever_order_chunks_arrive_in() {
        let digest = |n: u32| Digest::of(&n.to_be_bytes());
        let mut tracker = PrefixTracker::default();
        for n in [2, 0, 5, 1, 1] {
            tracker.add(n, digest(n));
        }
        let root = Digest::root_of(&[digest(0), digest(1), digest(2)]);
        assert_eq!(tracker.prefix(), VerifiedPrefix { chunks: 3, root });
    }
}
