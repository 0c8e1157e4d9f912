//! Sizes and intersections of runs of chunks.

use std::ops::Range;

use wire::{ChunkLayout, ChunkSet};

/// Returns the bytes in the chunks of `run`.
pub(super) fn len_of(layout: ChunkLayout, run: Range<u32>) -> u64 {
    let bytes = layout.bytes_of_run(run);
    bytes.end - bytes.start
}

/// Returns the bytes in a full chunk, but never more than the file has.
pub(super) fn chunk_len(layout: ChunkLayout) -> u64 {
    layout.chunk_size().min(layout.size())
}

/// Returns the chunks that are in both sets.
pub(super) fn intersection(a: &ChunkSet, b: &ChunkSet) -> ChunkSet {
    let mut both = a.clone();
    let end = a.iter().last().map_or(0, |run| run.end);
    b.gaps(0..end).iter().for_each(|gap| both.remove(gap));
    both
}
