//! Parts of one chunk: which source gave which bytes.

use std::{collections::BTreeSet, ops::Range};

use wire::{Digest, Hasher};

use crate::schedule::SourceId;

/// Bytes of a chunk that one source gave and that were discarded.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) source: SourceId,
    /// Position in the chunk.
    range: Range<u64>,
    digest: Digest,
}

/// A discarded part that is compared while the chunk is received again.
#[derive(Debug)]
struct Comparison {
    part: Part,
    /// Hash of what arrives at the place of the part.
    hasher: Hasher,
}

impl Comparison {
    /// Takes bytes that arrived at `at`, as far as they belong to the part.
    fn take(&mut self, bytes: &[u8], at: u64) {
        let offset =
            |position: u64| usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        let own = offset(self.part.range.start)..offset(self.part.range.end);
        self.hasher.update(bytes.get(own).unwrap_or_default());
    }
}

/// The beginning of a chunk, as the sink holds it.
#[derive(Debug)]
pub(super) struct Beginning {
    bytes: u64,
    /// Hash of the whole.
    hasher: Hasher,
    /// The parts of sources that came before the present one.
    earlier: Vec<Part>,
    /// The source that gives the present part.
    source: SourceId,
    start: u64,
    /// Hash of the present part; `None` where it is the whole.
    part_hasher: Option<Hasher>,
    comparisons: Vec<Comparison>,
}

impl Beginning {
    /// Creates an empty beginning that `source` continues, to be compared with `discarded`.
    pub(super) fn new(source: SourceId, discarded: &[Part]) -> Self {
        let comparisons = discarded.iter().map(|part| Comparison { part: part.clone(), hasher: Hasher::new() });
        Self {
            bytes: 0,
            hasher: Hasher::new(),
            earlier: Vec::new(),
            source,
            start: 0,
            part_hasher: None,
            comparisons: comparisons.collect(),
        }
    }

    /// Begins a new part, if another source goes on.
    pub(super) fn continued_by(mut self, source: SourceId) -> Self {
        if source == self.source {
            return self;
        }
        self.earlier.extend(self.present_part());
        self.part_hasher = (self.bytes > 0).then(Hasher::new);
        (self.source, self.start) = (source, self.bytes);
        self
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_mixed(&self) -> bool {
        !self.earlier.is_empty()
    }

    pub(super) fn is_only_from(&self, source: SourceId) -> bool {
        self.source == source && !self.is_mixed()
    }

    pub(super) fn has_part_of(&self, source: SourceId) -> bool {
        self.source == source || self.earlier.iter().any(|part| part.source == source)
    }

    /// Takes the next bytes.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(hasher) = &mut self.part_hasher {
            hasher.update(bytes);
        }
        for comparison in &mut self.comparisons {
            comparison.take(bytes, self.bytes);
        }
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }

    /// Returns the digest of the whole.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Returns the parts, with the present one.
    pub(super) fn into_parts(self) -> Vec<Part> {
        let present = self.present_part();
        self.earlier.into_iter().chain(present).collect()
    }

    /// Returns the sources of discarded parts that differ from the bytes of this chunk, which is complete and verified.
    pub(super) fn differing_sources(self) -> BTreeSet<SourceId> {
        let differs = |comparison: Comparison| {
            let Part { source, digest, .. } = comparison.part;
            (comparison.hasher.finish() != digest).then_some(source)
        };
        self.comparisons.into_iter().filter_map(differs).collect()
    }

    fn present_part(&self) -> Option<Part> {
        let hasher = self.part_hasher.as_ref().unwrap_or(&self.hasher);
        let range = self.start..self.bytes;
        (!range.is_empty()).then(|| Part { source: self.source, range, digest: hasher.clone().finish() })
    }
}
