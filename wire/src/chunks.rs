//! Division of files into chunks, and sets of chunks.
//!
//! A chunk is the unit of verification: fixed size per file, the last one shorter. Intervals are half-open throughout.

use std::{fmt, ops::Range};

use crate::grammar::counted;
use rangemap::RangeSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Smallest chunk size in bytes.
pub const MIN_CHUNK_SIZE: u64 = 1 << 20;
/// Largest number of chunks in a file. It bounds the digests of a manifest to half a megabyte.
pub const MAX_CHUNKS: u32 = 16_384;
/// Largest file in bytes: 1 PiB.
pub const MAX_FILE_SIZE: u64 = 1 << 50;

/// Division of a file into chunks: its size and chunk size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkLayout {
    size: u64,
    chunk_size: u64,
}

/// Position of a chunk. Only a [`ChunkLayout`] with such a chunk creates one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkIndex(u32);

/// Error of a size and a chunk size that do not form a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkLayoutError {
    /// The size exceeds [`MAX_FILE_SIZE`].
    #[error("a file holds at most {MAX_FILE_SIZE} bytes")]
    TooLarge,
    /// The chunk size is not the one that follows from the size.
    #[error("the chunk size of this file must be {}", counted(.expected.to_owned(), "byte"))]
    ChunkSize {
        /// The only chunk size allowed for the size.
        expected: u64,
    },
}

impl ChunkLayout {
    /// Returns the layout of a file of `size` bytes: its chunk size is the smallest power of two ≥ 1 MiB that gives at
    /// most 16,384 chunks.
    ///
    /// # Errors
    /// [`ChunkLayoutError::TooLarge`].
    pub fn of(size: u64) -> Result<Self, ChunkLayoutError> {
        if size > MAX_FILE_SIZE {
            return Err(ChunkLayoutError::TooLarge);
        }
        let chunk_size = size.div_ceil(u64::from(MAX_CHUNKS)).next_power_of_two().max(MIN_CHUNK_SIZE);
        Ok(Self { size, chunk_size })
    }

    /// Checks a layout received from a peer.
    ///
    /// # Errors
    /// When `chunk_size` differs from the one that [`ChunkLayout::of`] gives.
    pub fn checked(size: u64, chunk_size: u64) -> Result<Self, ChunkLayoutError> {
        let layout = Self::of(size)?;
        if layout.chunk_size == chunk_size {
            Ok(layout)
        } else {
            Err(ChunkLayoutError::ChunkSize { expected: layout.chunk_size })
        }
    }

    /// Returns the size of the file in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the size in bytes of every chunk but the last.
    pub const fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// Returns the number of chunks; 0 for an empty file.
    pub fn count(&self) -> u32 {
        // `of` chose the chunk size so that the count is at most MAX_CHUNKS.
        u32::try_from(self.size.div_ceil(self.chunk_size)).unwrap_or(MAX_CHUNKS)
    }

    /// Returns chunk `n`, if the file has it.
    pub fn chunk(&self, n: u32) -> Option<ChunkIndex> {
        (n < self.count()).then_some(ChunkIndex(n))
    }

    /// Returns all chunks in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkIndex> + use<> {
        (0..self.count()).map(ChunkIndex)
    }

    /// Returns the byte range of one chunk.
    pub fn bytes_of(&self, chunk: ChunkIndex) -> Range<u64> {
        self.bytes_of_run(chunk.0..chunk.0.saturating_add(1))
    }

    /// Returns the byte range of consecutive chunks, clamped to the file.
    pub fn bytes_of_run(&self, run: Range<u32>) -> Range<u64> {
        let at = |n: u32| u64::from(n).saturating_mul(self.chunk_size).min(self.size);
        at(run.start)..at(run.end)
    }

    /// Returns the chunks that a byte range touches; an empty range touches none.
    pub fn run_of_bytes(&self, bytes: Range<u64>) -> Range<u32> {
        if bytes.is_empty() {
            return 0..0;
        }
        let index = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).min(self.count());
        index(bytes.start / self.chunk_size)..index(bytes.end.div_ceil(self.chunk_size))
    }

    /// Returns the set of all chunks.
    pub fn all(&self) -> ChunkSet {
        ChunkSet::from(0..self.count())
    }
}

impl ChunkIndex {
    /// Returns the position, counted from 0.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChunkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Set of chunks as half-open intervals, `[[a,b],…]` in JSON: sorted, disjoint, not adjacent, none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkSet(RangeSet<u32>);

impl ChunkSet {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the chunks of `run`; an empty `run` changes nothing.
    pub fn insert(&mut self, run: Range<u32>) {
        if !run.is_empty() {
            self.0.insert(run);
        }
    }

    /// Removes the chunks of `run`; an empty `run` changes nothing.
    pub fn remove(&mut self, run: Range<u32>) {
        if !run.is_empty() {
            self.0.remove(run);
        }
    }

    /// Returns true if chunk `n` is in the set.
    pub fn contains(&self, n: u32) -> bool {
        self.0.contains(&n)
    }

    /// Returns true if every chunk of `run` is in the set, and for an empty `run`.
    pub fn covers(&self, run: Range<u32>) -> bool {
        run.is_empty() || self.0.get(&run.start).is_some_and(|held| held.end >= run.end)
    }

    /// Returns the number of chunks in the set.
    pub fn len(&self) -> u32 {
        self.iter().map(|run| run.end - run.start).sum()
    }

    /// Returns true if the set has no chunks.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the intervals in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u32>> {
        self.0.iter().cloned()
    }

    /// Names the chunks for a person: `chunk 3`, `chunks 2-4, 7`. Of very many intervals only the first are named.
    pub fn describe(&self) -> String {
        let mut named: Vec<String> = self.iter().take(MAX_NAMED_RUNS).map(|run| name_run(&run)).collect();
        if self.iter().nth(MAX_NAMED_RUNS).is_some() {
            named.push("others".to_owned());
        }
        format!("{} {}", if self.len() == 1 { "chunk" } else { "chunks" }, named.join(", "))
    }

    /// Returns the chunks of `within` that are not in the set.
    pub fn gaps(&self, within: Range<u32>) -> Self {
        if within.is_empty() { Self::new() } else { Self(self.0.gaps(&within).collect()) }
    }
}

/// Intervals that a description names.
const MAX_NAMED_RUNS: usize = 8;

fn name_run(run: &Range<u32>) -> String {
    if run.end - run.start == 1 {
        run.start.to_string()
    } else {
        format!("{}-{}", run.start, run.end.saturating_sub(1))
    }
}

impl From<Range<u32>> for ChunkSet {
    fn from(run: Range<u32>) -> Self {
        let mut runs = Self::new();
        runs.insert(run);
        runs
    }
}

impl FromIterator<Range<u32>> for ChunkSet {
    fn from_iter<I: IntoIterator<Item = Range<u32>>>(iter: I) -> Self {
        let mut runs = Self::new();
        iter.into_iter().for_each(|run| runs.insert(run));
        runs
    }
}

impl Serialize for ChunkSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|run| [run.start, run.end]))
    }
}

impl<'de> Deserialize<'de> for ChunkSet {
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
    fn chunks_are_named_for_a_person_and_of_many_only_the_first() {
        let set = |chunks: &[u32]| chunks.iter().map(|n| *n..n + 1).collect::<ChunkSet>();
        for (chunks, named) in [
            (&[3][..], "chunk 3"),
            (&[2, 3, 7], "chunks 2-3, 7"),
            (&[0, 3, 4, 7, 8, 9], "chunks 0, 3-4, 7-9"),
            (&[0, 2, 4, 6, 8, 10, 12, 14, 16], "chunks 0, 2, 4, 6, 8, 10, 12, 14, others"),
        ] {
            assert_eq!(set(chunks).describe(), named);
        }
    }

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
            let layout = ChunkLayout::of(size).unwrap();
            assert_eq!((layout.chunk_size(), layout.count()), (chunk_size, count), "{size}");
        }
        assert_eq!(ChunkLayout::of(MAX_FILE_SIZE + 1), Err(ChunkLayoutError::TooLarge));
        assert_eq!(ChunkLayout::of(u64::MAX), Err(ChunkLayoutError::TooLarge));
        assert_eq!(ChunkLayout::checked(1, 2 * MIB), Err(ChunkLayoutError::ChunkSize { expected: MIB }));
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
            assert!(serde_json::from_str::<ChunkSet>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<ChunkSet>("[[0,2],[3,16384]]").unwrap().len(), 16_383);
    }

    proptest! {
        #[test]
        fn chunks_tile_the_file(size in prop_oneof![0..64 * MIB, 0..=MAX_FILE_SIZE]) {
            let layout = ChunkLayout::of(size).unwrap();
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
            let mut runs = ChunkSet::new();
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
            prop_assert_eq!(serde_json::from_str::<ChunkSet>(&text).unwrap(), runs);
        }
    }
}
