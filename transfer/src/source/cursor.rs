//! The position of a request in its run of chunks.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// The next chunk that a request will begin, and the end of its run. The request begins chunk after chunk; the scheduler may
/// move the end forward to any chunk that was not begun.
#[derive(Debug)]
pub(crate) struct ChunkCursor(AtomicU64);

impl ChunkCursor {
    pub(crate) fn new(run: &Range<u32>) -> Self {
        Self(AtomicU64::new(pack(run.start, run.end)))
    }

    /// Begins the next chunk, if there is one left.
    pub(super) fn begin_next(&self) -> Option<u32> {
        let begin = |state| {
            let (next, end) = unpack(state);
            (next < end).then(|| pack(next + 1, end))
        };
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin);
        before.ok().map(|state| unpack(state).0)
    }

    /// Moves the end to `end`, or as near as possible. Returns the new end.
    pub(crate) fn truncate(&self, end: u32) -> u32 {
        let truncate = |state| {
            let (next, old) = unpack(state);
            Some(pack(next, end.clamp(next.min(old), old)))
        };
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, truncate);
        unpack(self.0.load(Ordering::Acquire)).1
    }
}

fn pack(next: u32, end: u32) -> u64 {
    (u64::from(next) << 32) | u64::from(end)
}

fn unpack(state: u64) -> (u32, u32) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (half(state >> 32), half(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_either_begun_or_truncated_never_both() {
        let cursor = ChunkCursor::new(&(5..9));
        assert_eq!(cursor.begin_next(), Some(5));
        assert_eq!(cursor.truncate(3), 6, "chunk 5 was begun");
        assert_eq!(cursor.begin_next(), None);
        let cursor = ChunkCursor::new(&(5..9));
        assert_eq!(cursor.truncate(20), 9);
        assert_eq!(cursor.truncate(7), 7);
        assert_eq!([cursor.begin_next(), cursor.begin_next(), cursor.begin_next()], [Some(5), Some(6), None]);
        assert_eq!(cursor.truncate(6), 7);
    }
}
