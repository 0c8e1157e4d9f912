//! Chunks that requests left unfinished: whoever is asked for one next goes on where the last one ended.
//!
//! On a line that loses packets no request may live long enough for a whole chunk, and what a slow source has given of one
//! is not to be fetched again. A chunk of which parts came from several sources blames none of them when it turns out wrong:
//! it is fetched anew, whole, from one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wire::Hasher;

use crate::schedule::SourceKey;

/// What is left of chunks of one download.
#[derive(Debug, Default)]
pub(crate) struct Partials(Mutex<BTreeMap<u32, Left>>);

#[derive(Debug)]
enum Left {
    /// This much stands in the sink.
    Begun(Part),
    /// Parts of several sources did not make this chunk.
    Whole,
}

/// The beginning of a chunk, as it stands in the sink.
#[derive(Debug)]
struct Part {
    bytes: u64,
    hasher: Hasher,
    /// Who gave it; nobody when several did.
    source: Option<SourceKey>,
}

impl Partials {
    /// How many bytes of the chunk need not be asked for again.
    pub(crate) fn bytes(&self, chunk: u32) -> u64 {
        match self.left().get(&chunk) {
            Some(Left::Begun(part)) => part.bytes,
            Some(Left::Whole) | None => 0,
        }
    }

    /// Goes on with a chunk where it was left.
    pub(crate) fn resume(self: &Arc<Self>, chunk: u32, source: SourceKey) -> Current {
        let mut left = self.left();
        let begun = matches!(left.get(&chunk), Some(Left::Begun(_))).then(|| left.remove(&chunk)).flatten();
        let part = match begun {
            Some(Left::Begun(part)) => Part { source: part.source.filter(|known| *known == source), ..part },
            Some(Left::Whole) | None => Part { bytes: 0, hasher: Hasher::new(), source: Some(source) },
        };
        Current { chunk, part: Some(part), partials: Arc::clone(self) }
    }

    /// Begins a chunk from its first byte, whatever was there.
    pub(crate) fn begin(self: &Arc<Self>, chunk: u32, source: SourceKey) -> Current {
        let part = Part { bytes: 0, hasher: Hasher::new(), source: Some(source) };
        Current { chunk, part: Some(part), partials: Arc::clone(self) }
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<u32, Left>> {
        // Every change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chunk that is being received. What came of it is kept when it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Current {
    chunk: u32,
    /// None once it is complete.
    part: Option<Part>,
    partials: Arc<Partials>,
}

impl Current {
    pub(crate) const fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Bytes of it that stand in the sink.
    pub(crate) fn bytes(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.bytes)
    }

    /// The next bytes stand in the sink.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        if let Some(part) = &mut self.part {
            part.hasher.update(bytes);
            part.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
    }

    /// All of it is there: whether it has this digest, and if not, whether its source is to blame.
    pub(crate) fn finish(mut self, wanted: Option<&wire::Digest>) -> Verdict {
        let Some(part) = self.part.take() else { return Verdict::Unclear };
        if wanted == Some(&part.hasher.finish()) {
            return Verdict::Right;
        }
        if part.source.is_some() {
            return Verdict::Wrong;
        }
        self.partials.left().insert(self.chunk, Left::Whole);
        Verdict::Unclear
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let Some(part) = self.part.take().filter(|part| part.bytes > 0) else { return };
        let mut left = self.partials.left();
        if !matches!(left.get(&self.chunk), Some(Left::Whole)) {
            left.insert(self.chunk, Left::Begun(part));
        }
    }
}

/// What a complete chunk turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was published.
    Right,
    /// Something else, all of it from one source.
    Wrong,
    /// Something else, from several sources.
    Unclear,
}

#[cfg(test)]
mod tests {
    use wire::Digest;

    use super::*;

    fn received(mut chunk: Current, bytes: &[u8]) -> Current {
        chunk.wrote(bytes);
        chunk
    }

    #[test]
    fn a_chunk_goes_on_where_it_was_left_whoever_gives_the_rest() {
        let partials = Arc::new(Partials::default());
        drop(received(partials.resume(3, 0), b"ab"));
        assert_eq!((partials.bytes(3), partials.bytes(4)), (2, 0));
        drop(partials.resume(3, 1));
        let chunk = partials.resume(3, 1);
        assert_eq!((chunk.bytes(), partials.bytes(3)), (2, 0));
        assert_eq!(received(chunk, b"c").finish(Some(&Digest::of(b"abc"))), Verdict::Right);
        assert_eq!(partials.bytes(3), 0, "what is complete is left to nobody");
    }

    #[test]
    fn one_liar_is_blamed_and_of_several_sources_none_but_the_chunk_then_comes_from_one() {
        let partials = Arc::new(Partials::default());
        let right = Digest::of(b"abc");
        drop(received(partials.resume(3, 0), b"xy"));
        assert_eq!(received(partials.resume(3, 0), b"z").finish(Some(&right)), Verdict::Wrong);
        drop(received(partials.resume(3, 0), b"xy"));
        assert_eq!(received(partials.resume(3, 1), b"c").finish(Some(&right)), Verdict::Unclear);
        drop(received(partials.resume(3, 0), b"xy"));
        assert_eq!(partials.bytes(3), 0, "begun anew");
        assert_eq!(received(partials.resume(3, 0), b"xyz").finish(Some(&right)), Verdict::Wrong);
    }

    #[test]
    fn what_stood_there_of_a_chunk_that_is_begun_anew_does_not_count() {
        let partials = Arc::new(Partials::default());
        drop(received(partials.resume(3, 0), b"xy"));
        assert_eq!(received(partials.begin(3, 1), b"abc").finish(Some(&Digest::of(b"abc"))), Verdict::Right);
    }
}
