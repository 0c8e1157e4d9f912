//! Chunks that requests left unfinished: the next request for such a chunk continues where the last one ended.
//!
//! On a link that loses packets no request may live long enough for a whole chunk, and what a slow source has given of one
//! must not be fetched again. When a chunk with parts of several sources does not match its digest, none of them is known to
//! be faulty: the chunk is *contested*. Only one source may supply it then, in as many requests as it needs. As soon as the
//! chunk is verified, every part that was discarded is compared with the verified bytes, which shows the faulty sources.

mod part;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::part::{Beginning, Part};
use crate::schedule::SourceId;

/// Discarded parts that are remembered of one chunk. Each costs another hash of its bytes when the chunk is received again.
const MAX_DISCARDED_PARTS: usize = 8;

/// The unfinished chunks of one download.
#[derive(Debug, Default)]
pub(crate) struct PartialChunks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    chunks: BTreeMap<u32, Unfinished>,
    /// Sources that sent wrong bytes: nothing of them is kept.
    faulty: BTreeSet<SourceId>,
}

#[derive(Debug, Default)]
struct Unfinished {
    /// The beginning of the chunk, as the sink holds it.
    beginning: Option<Beginning>,
    /// Parts that were received and discarded, to be compared with the verified chunk.
    discarded: Vec<Part>,
    /// Set if parts of several sources did not match: only one source may supply the chunk.
    is_contested: bool,
}

impl Unfinished {
    fn discard(&mut self, parts: impl IntoIterator<Item = Part>) {
        let room = MAX_DISCARDED_PARTS.saturating_sub(self.discarded.len());
        self.discarded.extend(parts.into_iter().take(room));
    }

    /// Returns true if `source` may continue `beginning`.
    fn may_continue(&self, beginning: &Beginning, source: SourceId) -> bool {
        !self.is_contested || beginning.is_only_from(source)
    }
}

impl PartialChunks {
    /// Returns how many bytes of the chunk need not be requested again from `source`.
    pub(crate) fn bytes(&self, chunk: u32, source: SourceId) -> u64 {
        let state = self.lock();
        let Some(unfinished) = state.chunks.get(&chunk) else { return 0 };
        let beginning = unfinished.beginning.as_ref().filter(|beginning| unfinished.may_continue(beginning, source));
        beginning.map_or(0, Beginning::bytes)
    }

    /// Continues a chunk where it was left, or begins it anew if only another source may continue it.
    pub(crate) fn resume(self: &Arc<Self>, index: u32, source: SourceId) -> ReceivingChunk {
        self.receive(index, source, true)
    }

    /// Begins a chunk from its first byte, whatever was there.
    pub(crate) fn begin(self: &Arc<Self>, index: u32, source: SourceId) -> ReceivingChunk {
        self.receive(index, source, false)
    }

    fn receive(self: &Arc<Self>, index: u32, source: SourceId, may_continue: bool) -> ReceivingChunk {
        let mut state = self.lock();
        let beginning = match state.chunks.get_mut(&index) {
            None => Beginning::new(source, &[]),
            Some(unfinished) => match unfinished.beginning.take() {
                Some(beginning) if may_continue && unfinished.may_continue(&beginning, source) => {
                    beginning.continued_by(source)
                }
                left => {
                    unfinished.discard(left.into_iter().flat_map(Beginning::into_parts));
                    Beginning::new(source, &unfinished.discarded)
                }
            },
        };
        ReceivingChunk { index, beginning: Some(beginning), partial_chunks: Arc::clone(self) }
    }

    /// Discards what a faulty source gave, now and later: continuing it would only spoil the bytes of others.
    pub(crate) fn forget(&self, source: SourceId) {
        let mut state = self.lock();
        state.faulty.insert(source);
        for unfinished in state.chunks.values_mut() {
            unfinished.beginning.take_if(|beginning| beginning.has_part_of(source));
            unfinished.discarded.retain(|part| part.source != source);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves a valid map, whichever of its steps a panic interrupts.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chunk that is being received. Dropping it before its end keeps what has arrived.
#[derive(Debug)]
pub(crate) struct ReceivingChunk {
    index: u32,
    /// `None` once the chunk is complete.
    beginning: Option<Beginning>,
    partial_chunks: Arc<PartialChunks>,
}

impl ReceivingChunk {
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// Returns how many of its bytes the sink holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.beginning.as_ref().map_or(0, Beginning::bytes)
    }

    /// Records that the sink holds the next bytes.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        if let Some(beginning) = &mut self.beginning {
            beginning.wrote(bytes);
        }
    }

    /// Compares the complete chunk with its digest.
    pub(crate) fn finish(mut self, expected: Option<&wire::Digest>) -> ChunkVerdict {
        let Some(chunk) = self.beginning.take() else { return ChunkVerdict::MixedMismatch };
        let mut state = self.partial_chunks.lock();
        if expected == Some(&chunk.digest()) {
            state.chunks.remove(&self.index);
            return ChunkVerdict::Match { faulty: chunk.differing_sources() };
        }
        if !chunk.is_mixed() {
            return ChunkVerdict::Mismatch;
        }
        let unfinished = state.chunks.entry(self.index).or_default();
        unfinished.is_contested = true;
        unfinished.discard(chunk.into_parts());
        ChunkVerdict::MixedMismatch
    }
}

impl Drop for ReceivingChunk {
    fn drop(&mut self) {
        let Some(beginning) = self.beginning.take().filter(|beginning| beginning.bytes() > 0) else { return };
        let mut state = self.partial_chunks.lock();
        if !state.faulty.iter().any(|source| beginning.has_part_of(*source)) {
            state.chunks.entry(self.index).or_default().beginning = Some(beginning);
        }
    }
}

/// The comparison of a complete chunk with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChunkVerdict {
    /// The chunk matches.
    Match {
        /// Sources that had given other bytes for parts of this chunk.
        faulty: BTreeSet<SourceId>,
    },
    /// The chunk differs, and all of it came from one source.
    Mismatch,
    /// The chunk differs, and its parts came from several sources.
    MixedMismatch,
}

#[cfg(test)]
mod tests {
    use wire::Digest;

    use super::*;

    const FIRST: SourceId = SourceId::new(0);
    const SECOND: SourceId = SourceId::new(1);
    const THIRD: SourceId = SourceId::new(2);

    fn matched(faulty: &[SourceId]) -> ChunkVerdict {
        ChunkVerdict::Match { faulty: faulty.iter().copied().collect() }
    }

    fn received(mut chunk: ReceivingChunk, bytes: &[u8]) -> ReceivingChunk {
        chunk.wrote(bytes);
        chunk
    }

    #[test]
    fn a_chunk_continues_where_it_was_left_whichever_source_gives_the_rest() {
        let chunks = Arc::new(PartialChunks::default());
        drop(received(chunks.resume(3, FIRST), b"ab"));
        assert_eq!((chunks.bytes(3, SECOND), chunks.bytes(4, SECOND)), (2, 0));
        drop(chunks.resume(3, SECOND));
        let chunk = chunks.resume(3, SECOND);
        assert_eq!((chunk.bytes(), chunks.bytes(3, FIRST)), (2, 0));
        assert_eq!(received(chunk, b"c").finish(Some(&Digest::of(b"abc"))), matched(&[]));
        assert_eq!(chunks.bytes(3, FIRST), 0, "a complete chunk leaves nothing behind");
    }

    #[test]
    fn one_faulty_source_is_named_at_once_and_one_of_several_when_the_chunk_is_verified() {
        let chunks = Arc::new(PartialChunks::default());
        let right = Digest::of(b"abc");
        drop(received(chunks.resume(3, FIRST), b"xy"));
        assert_eq!(received(chunks.resume(3, FIRST), b"z").finish(Some(&right)), ChunkVerdict::Mismatch);
        drop(received(chunks.resume(3, FIRST), b"xy"));
        assert_eq!(received(chunks.resume(3, SECOND), b"c").finish(Some(&right)), ChunkVerdict::MixedMismatch);
        drop(received(chunks.resume(3, THIRD), b"a"));
        assert_eq!((chunks.bytes(3, THIRD), chunks.bytes(3, SECOND)), (1, 0), "only its source continues it");
        drop(received(chunks.resume(3, THIRD), b"b"));
        drop(received(chunks.resume(3, SECOND), b"ax"));
        assert_eq!(received(chunks.resume(3, THIRD), b"abc").finish(Some(&right)), matched(&[FIRST, SECOND]));
        assert_eq!(chunks.bytes(3, THIRD), 0);
    }

    #[test]
    fn a_part_that_was_right_accuses_nobody() {
        let chunks = Arc::new(PartialChunks::default());
        let right = Digest::of(b"abcdef");
        drop(received(chunks.resume(3, FIRST), b"ab"));
        drop(received(chunks.resume(3, SECOND), b"xx"));
        assert_eq!(received(chunks.resume(3, THIRD), b"ef").finish(Some(&right)), ChunkVerdict::MixedMismatch);
        // In pieces that end inside of the parts.
        let chunk = received(received(chunks.resume(3, FIRST), b"a"), b"bcd");
        assert_eq!(received(received(chunk, b"e"), b"f").finish(Some(&right)), matched(&[SECOND]));
    }

    #[test]
    fn what_a_faulty_source_began_is_continued_by_nobody() {
        let chunks = Arc::new(PartialChunks::default());
        drop(received(chunks.resume(3, FIRST), b"xy"));
        let running = received(chunks.resume(4, FIRST), b"xy");
        chunks.forget(FIRST);
        drop(running);
        assert_eq!((chunks.bytes(3, SECOND), chunks.bytes(4, SECOND)), (0, 0));
        assert_eq!(received(chunks.resume(3, SECOND), b"abc").finish(Some(&Digest::of(b"abc"))), matched(&[]));
    }

    #[test]
    fn a_chunk_that_is_begun_anew_ignores_what_was_there_and_shows_that_it_was_wrong() {
        let chunks = Arc::new(PartialChunks::default());
        drop(received(chunks.resume(3, FIRST), b"xy"));
        assert_eq!(received(chunks.begin(3, SECOND), b"abc").finish(Some(&Digest::of(b"abc"))), matched(&[FIRST]));
    }
}
