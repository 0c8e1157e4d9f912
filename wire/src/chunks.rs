//! How a file is cut into chunks, and sets of chunks.
//!
//! A chunk is the unit of verification: fixed size per file, the last one shorter. Intervals are half-open throughout.

use std::{fmt, ops::Range};

use rangemap::RangeSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The smallest chunk, in bytes.
pub const MIN_CHUNK_SIZE: u64 = 1 << 20;
/// The most chunks a file is cut into; bounds every manifest to half a megabyte of digests.
pub const MAX_CHUNKS: u32 = 16_384;
/// The largest file, in bytes: 1 PiB.
pub const MAX_FILE_SIZE: u64 = 1 << 50;

/// How one file is cut: its size and its chunk size, both in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    size: u64,
    chunk_size: u64,
}

/// The position of a chunk; only a [`Layout`] that has such a chunk can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkIndex(u32);

/// Why a size and a chunk size do not make a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Larger than [`MAX_FILE_SIZE`].
    #[error("a file holds at most {MAX_FILE_SIZE} bytes")]
    TooLarge,
    /// Not the chunk size that the size calls for.
    #[error("the chunk size of this file must be {expected} bytes")]
    ChunkSize {
        /// The only chunk size allowed for the size.
        expected: u64,
    },
}

impl Layout {
    /// The layout of a file of `size` bytes: the smallest power of two ≥ 1 MiB that gives at most 16,384 chunks.
    ///
    /// # Errors
    /// [`LayoutError::TooLarge`].
    pub fn of(size: u64) -> Result<Self, LayoutError> {
        if size > MAX_FILE_SIZE {
            return Err(LayoutError::TooLarge);
        }
        let chunk_size = size.div_ceil(u64::from(MAX_CHUNKS)).next_power_of_two().max(MIN_CHUNK_SIZE);
        Ok(Self { size, chunk_size })
    }

    /// Checks a layout that a peer names.
    ///
    /// # Errors
    /// When `chunk_size` is not the one [`Layout::of`] gives.
    pub fn checked(size: u64, chunk_size: u64) -> Result<Self, LayoutError> {
        let layout = Self::of(size)?;
        if layout.chunk_size == chunk_size {
            Ok(layout)
        } else {
            Err(LayoutError::ChunkSize { expected: layout.chunk_size })
        }
    }

    /// Bytes in the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in every chunk but the last.
    pub const fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// How many chunks there are; none in an empty file.
    pub fn count(&self) -> u32 {
        // `of` chose the chunk size so that the count is at most MAX_CHUNKS.
        u32::try_from(self.size.div_ceil(self.chunk_size)).unwrap_or(MAX_CHUNKS)
    }

    /// The `n`-th chunk, if there is one.
    pub fn chunk(&self, n: u32) -> Option<ChunkIndex> {
        (n < self.count()).then_some(ChunkIndex(n))
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkIndex> + use<> {
        (0..self.count()).map(ChunkIndex)
    }

    /// The bytes of one chunk.
    pub fn bytes_of(&self, chunk: ChunkIndex) -> Range<u64> {
        self.bytes_of_run(chunk.0..chunk.0.saturating_add(1))
    }

    /// The bytes of a run of chunks, clamped to the file.
    pub fn bytes_of_run(&self, run: Range<u32>) -> Range<u64> {
        let at = |n: u32| u64::from(n).saturating_mul(self.chunk_size).min(self.size);
        at(run.start)..at(run.end)
    }

    /// The chunks that a byte range touches; empty for an empty range.
    pub fn run_of_bytes(&self, bytes: Range<u64>) -> Range<u32> {
        if bytes.is_empty() {
            return 0..0;
        }
        let index = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).min(self.count());
        index(bytes.start / self.chunk_size)..index(bytes.end.div_ceil(self.chunk_size))
    }

    /// The whole file as runs.
    pub fn all(&self) -> Runs {
        Runs::from(0..self.count())
    }
}

impl ChunkIndex {
    /// The position, counted from 0.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChunkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A set of chunks as half-open intervals, `[[a,b],…]` in JSON: sorted, disjoint, not adjacent, none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs(RangeSet<u32>);

impl Runs {
    /// No chunks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `run`; an empty one changes nothing.
    pub fn insert(&mut self, run: Range<u32>) {
        if !run.is_empty() {
            self.0.insert(run);
        }
    }

    /// Takes `run` out; an empty one changes nothing.
    pub fn remove(&mut self, run: Range<u32>) {
        if !run.is_empty() {
            self.0.remove(run);
        }
    }

    /// Whether chunk `n` is in the set.
    pub fn contains(&self, n: u32) -> bool {
        self.0.contains(&n)
    }

    /// Whether every chunk of `run` is in the set; true of an empty run.
    pub fn covers(&self, run: Range<u32>) -> bool {
        run.is_empty() || self.0.get(&run.start).is_some_and(|held| held.end >= run.end)
    }

    /// How many chunks are in the set.
    pub fn len(&self) -> u32 {
        self.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The intervals, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u32>> {
        self.0.iter().cloned()
    }

    /// The chunks of `within` that are not in the set.
    pub fn gaps(&self, within: Range<u32>) -> Self {
        if within.is_empty() { Self::new() } else { Self(self.0.gaps(&within).collect()) }
    }
}

impl From<Range<u32>> for Runs {
    fn from(run: Range<u32>) -> Self {
        let mut runs = Self::new();
        runs.insert(run);
        runs
    }
}

impl FromIterator<Range<u32>> for Runs {
    fn from_iter<I: IntoIterator<Item = Range<u32>>>(iter: I) -> Self {
        let mut runs = Self::new();
        iter.into_iter().for_each(|run| runs.insert(run));
        runs
    }
}

impl Serialize for Runs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|run| [run.start, run.end]))
    }
}

impl<'de> Deserialize<'de> for Runs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Vec::<[u32; 2]>::deserialize(deserializer)?;
        let mut runs = Self::new();
        let mut previous = 0;
        for (i, [start, end]) in raw.into_iter().enumerate() {
            if start >= end || end > MAX_CHUNKS || (i > 0 && start <= previous) {
                return Err(de::Error::custom("runs are ascending, disjoint, half-open chunk intervals [[a,b],…]"));
            }
            runs.insert(start..end);
            previous = end;
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn chunk_size_follows_the_file_size() {
        for (size, chunk_size, count) in [
            (0, MIB, 0),
            (1, MIB, 1),
            (MIB - 1, MIB, 1),
            (MIB, MIB, 1),
            (MIB + 1, MIB, 2),
            (16 * 1024 * MIB, MIB, 16_384),
            (16 * 1024 * MIB + 1, 2 * MIB, 8_193),
            (MAX_FILE_SIZE, 1 << 36, 16_384),
        ] {
            let layout = Layout::of(size).unwrap();
            assert_eq!((layout.chunk_size(), layout.count()), (chunk_size, count), "{size}");
        }
        assert_eq!(Layout::of(MAX_FILE_SIZE + 1), Err(LayoutError::TooLarge));
        assert_eq!(Layout::of(u64::MAX), Err(LayoutError::TooLarge));
        assert_eq!(Layout::checked(1, 2 * MIB), Err(LayoutError::ChunkSize { expected: MIB }));
    }

    #[test]
    fn hostile_runs_are_refused() {
        for bad in [
            "[[1,1]]",
            "[[2,1]]",
            "[[0,2],[1,3]]",
            "[[0,2],[2,3]]",
            "[[3,4],[0,1]]",
            "[[0,16385]]",
            "[[-1,2]]",
            "[[0]]",
            "7",
        ] {
            assert!(serde_json::from_str::<Runs>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Runs>("[[0,2],[3,16384]]").unwrap().len(), 16_383);
    }

    proptest! {
        #[test]
        fn chunks_tile_the_file(size in prop_oneof![0..64 * MIB, 0..=MAX_FILE_SIZE]) {
            let layout = Layout::of(size).unwrap();
            prop_assert!(layout.count() <= MAX_CHUNKS);
            let mut at = 0;
            for chunk in layout.chunks() {
                let bytes = layout.bytes_of(chunk);
                prop_assert_eq!(bytes.start, at);
                prop_assert!(!bytes.is_empty() && bytes.end - bytes.start <= layout.chunk_size());
                prop_assert_eq!(layout.run_of_bytes(bytes.clone()), chunk.get()..chunk.get() + 1);
                at = bytes.end;
            }
            prop_assert_eq!(at, size);
        }

        #[test]
        fn runs_behave_like_a_set_of_numbers(ops in prop::collection::vec((any::<bool>(), 0..40u32, 0..40u32), 0..30)) {
            let mut runs = Runs::new();
            let mut model = std::collections::BTreeSet::new();
            for (add, a, b) in ops {
                let run = a.min(b)..a.max(b);
                if add { runs.insert(run.clone()); model.extend(run); } else { runs.remove(run.clone()); model.retain(|n| !run.contains(n)); }
            }
            let listed: Vec<u32> = runs.iter().flatten().collect();
            prop_assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(runs.len() as usize, model.len());
            let gaps: Vec<u32> = runs.gaps(0..40).iter().flatten().collect();
            prop_assert_eq!(gaps, (0..40).filter(|n| !model.contains(n)).collect::<Vec<_>>());
            let text = serde_json::to_string(&runs).unwrap();
            prop_assert_eq!(serde_json::from_str::<Runs>(&text).unwrap(), runs);
        }
    }
}
