//! A contested chunk: parts of several sources did not match its digest, so one source alone has to supply it.

use std::collections::BTreeSet;

use super::source::SourceId;

/// A chunk that only one source at a time may supply.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// The source that supplies the chunk at present.
    pub(super) owner: Option<SourceId>,
    /// All sources that have been its owner.
    pub(super) owners: BTreeSet<SourceId>,
    /// Requests of the owner that brought next to nothing.
    pub(super) tries: u32,
    /// Sources that did not finish the chunk.
    pub(super) set_aside: BTreeSet<SourceId>,
}
