//! One request: asks for a run of chunks, hashes and writes the bytes as they come.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, RANGE};
use tokio::sync::mpsc;
use url::Url;
use wire::{Digest, FileId, Hasher, Layout, range, token::Token};

use super::{Failure, answer::Asked};
use crate::{schedule::RequestId, sink::Sink};

/// Which chunks of its run a request has begun, and where it is to end. The request takes chunk after chunk; whoever
/// schedules may move the end forward to any chunk that has not been begun.
#[derive(Debug)]
pub(crate) struct Claim(AtomicU64);

impl Claim {
    pub(crate) fn new(run: &Range<u32>) -> Self {
        Self(AtomicU64::new(pack(run.start, run.end)))
    }

    /// Begins the next chunk, if there is one left.
    fn take(&self) -> Option<u32> {
        let begin = |state| {
            let (next, end) = unpack(state);
            (next < end).then(|| pack(next + 1, end))
        };
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin);
        before.ok().map(|state| unpack(state).0)
    }

    /// Moves the end to `end`, or as near as possible. Returns where it is now.
    pub(crate) fn cut(&self, end: u32) -> u32 {
        let cut = |state| {
            let (next, old) = unpack(state);
            Some(pack(next, end.clamp(next.min(old), old)))
        };
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, cut);
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

/// What a running request says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// The answer is the one to what was asked.
    Answered(RequestId),
    /// The chunk is written and matches its digest.
    Verified(RequestId, u32),
}

/// A request to be made.
pub(crate) struct Fetch {
    pub(crate) request: RequestId,
    pub(crate) client: reqwest::Client,
    pub(crate) url: Url,
    pub(crate) token: Token,
    pub(crate) file: FileId,
    pub(crate) layout: Layout,
    pub(crate) run: Range<u32>,
    /// One per chunk of the run.
    pub(crate) digests: Vec<Digest>,
    pub(crate) claim: Arc<Claim>,
    /// Bytes received.
    pub(crate) received: Arc<AtomicU64>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// A chunk that is being received.
struct Current {
    index: u32,
    offset: u64,
    end: u64,
    hasher: Hasher,
}

impl Fetch {
    /// Makes the request. It is dropped to abandon it: nothing is written after that.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let range = self.layout.bytes_of_run(self.run.clone());
        let mut response = self.send(&range).await?;
        let mut left = range.end - range.start;
        let mut current = self.begin();
        while let Some(frame) = response.chunk().await? {
            self.received.fetch_add(u64::try_from(frame.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let mut bytes = &*frame;
            while !bytes.is_empty() {
                // All chunks are there, or those that are not were given to another source.
                let Some(chunk) = &mut current else { return Ok(()) };
                let taken = self.write(chunk, bytes)?;
                bytes = bytes.get(taken..).unwrap_or_default();
                left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                if chunk.offset == chunk.end {
                    self.verify(current.take()).await?;
                    current = self.begin();
                }
            }
            if current.is_none() && left > 0 {
                return Ok(());
            }
        }
        match current {
            None => Ok(()),
            Some(_) => Err(Failure::Short { missing: left }),
        }
    }

    async fn send(&self, range: &Range<u64>) -> Result<reqwest::Response, Failure> {
        let asked = Asked { file: self.file, range: range.clone(), len: self.layout.size() };
        let bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose()));
        let mut bearer = bearer.map_err(|_| Failure::Answer("the token does not fit a header".into()))?;
        bearer.set_sensitive(true);
        let request = self
            .client
            .get(self.url.clone())
            .header(AUTHORIZATION, bearer)
            .header(RANGE, range::request(range))
            .header(ACCEPT_ENCODING, "identity");
        let response = request.send().await?;
        asked.check(response.status(), response.headers())?;
        // The receiver ends only after every request did.
        let _ = self.events.send(Event::Answered(self.request)).await;
        Ok(response)
    }

    fn begin(&self) -> Option<Current> {
        let index = self.claim.take()?;
        let bytes = self.layout.bytes_of_run(index..index + 1);
        Some(Current { index, offset: bytes.start, end: bytes.end, hasher: Hasher::new() })
    }

    /// Takes what belongs to the chunk. Returns how many bytes that is.
    fn write(&self, chunk: &mut Current, bytes: &[u8]) -> Result<usize, Failure> {
        let wanted = usize::try_from(chunk.end - chunk.offset).unwrap_or(usize::MAX);
        let part = bytes.get(..wanted).unwrap_or(bytes);
        // Hashed right after it was received and right before it is copied: it is in the cache only once.
        chunk.hasher.update(part);
        self.sink.write_at(part, chunk.offset)?;
        chunk.offset += u64::try_from(part.len()).unwrap_or(u64::MAX);
        Ok(part.len())
    }

    async fn verify(&self, chunk: Option<Current>) -> Result<(), Failure> {
        let Some(chunk) = chunk else { return Ok(()) };
        let position = usize::try_from(chunk.index - self.run.start).unwrap_or(usize::MAX);
        if self.digests.get(position) != Some(&chunk.hasher.finish()) {
            return Err(Failure::WrongBytes { chunk: chunk.index });
        }
        // Between the sink's word and ours there is nothing to wait for: a request that is abandoned has told both or neither,
        // so that a verified chunk is never written again.
        let permit = self.events.reserve().await;
        if let Some(index) = self.layout.chunk(chunk.index) {
            self.sink.verified(index)?;
        }
        if let Ok(permit) = permit {
            permit.send(Event::Verified(self.request, chunk.index));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_either_begun_or_cut_off_never_both() {
        let claim = Claim::new(&(5..9));
        assert_eq!(claim.take(), Some(5));
        assert_eq!(claim.cut(3), 6, "chunk 5 was begun");
        assert_eq!(claim.take(), None);
        let claim = Claim::new(&(5..9));
        assert_eq!(claim.cut(20), 9);
        assert_eq!(claim.cut(7), 7);
        assert_eq!([claim.take(), claim.take(), claim.take()], [Some(5), Some(6), None]);
        assert_eq!(claim.cut(6), 7);
    }
}
