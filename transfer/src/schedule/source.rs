//! A source, as the scheduler sees it.

use wire::ChunkSet;

use super::{health::Health, rate::Rate};

/// The number of a source, in the order in which sources were added to one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(usize);

impl SourceId {
    pub(crate) const fn new(index: usize) -> Self {
        Self(index)
    }

    /// Returns its position in lists that have one element per source.
    pub(crate) const fn index(self) -> usize {
        self.0
    }
}

/// A source with its chunks, health and measured rate.
#[derive(Debug)]
pub(super) struct SourceState {
    /// Distance: 0 is the nearest.
    pub(super) tier: u8,
    pub(super) runs: ChunkSet,
    pub(super) health: Health,
    pub(super) rate: Rate,
}

impl SourceState {
    pub(super) fn new(tier: u8, runs: ChunkSet) -> Self {
        Self { tier, runs, health: Health::default(), rate: Rate::default() }
    }
}
