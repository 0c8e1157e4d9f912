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
use wire::{Digest, FileId, Layout, Zone, range, token::Token};

use super::{
    Failure,
    answer::Asked,
    partial::{Current, Partials, Verdict},
};
use crate::{
    pace::Pace,
    schedule::{RequestId, SourceKey},
    sink::Sink,
};

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
    pub(crate) source: SourceKey,
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
    /// How fast bytes may come from the source's zone.
    pub(crate) pace: (Pace, Zone),
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) partials: Arc<Partials>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Fetch {
    /// Makes the request. It is dropped to abandon it: nothing is written after that.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // Of the first chunk only what is missing is asked for.
        let mut current = self.claim.take().map(|index| self.partials.resume(index, self.source));
        let mut range = self.layout.bytes_of_run(self.run.clone());
        range.start += current.as_ref().map_or(0, Current::bytes);
        let mut response = self.send(&range).await?;
        let mut left = range.end - range.start;
        while let Some(frame) = response.chunk().await? {
            let (pace, zone) = &self.pace;
            for mut bytes in frame.chunks(pace.turn(zone).unwrap_or(frame.len()).max(1)) {
                pace.pass(zone, bytes.len()).await;
                self.received.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                while !bytes.is_empty() {
                    // All chunks are there, or those that are not were given to another source.
                    let Some(chunk) = &mut current else { return Ok(()) };
                    let taken = self.write(chunk, bytes)?;
                    bytes = bytes.get(taken..).unwrap_or_default();
                    left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                    if chunk.bytes() == self.len(chunk) {
                        self.verify(current.take()).await?;
                        current = self.claim.take().map(|index| self.partials.begin(index, self.source));
                    }
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

    fn place(&self, chunk: &Current) -> Range<u64> {
        self.layout.bytes_of_run(chunk.chunk()..chunk.chunk() + 1)
    }

    fn len(&self, chunk: &Current) -> u64 {
        let place = self.place(chunk);
        place.end - place.start
    }

    /// Takes what belongs to the chunk. Returns how many bytes that is.
    fn write(&self, chunk: &mut Current, bytes: &[u8]) -> Result<usize, Failure> {
        let offset = self.place(chunk).start + chunk.bytes();
        let wanted = usize::try_from(self.len(chunk) - chunk.bytes()).unwrap_or(usize::MAX);
        let part = bytes.get(..wanted).unwrap_or(bytes);
        self.sink.write_at(part, offset)?;
        // Hashed right after it was copied: it is in the cache only once.
        chunk.wrote(part);
        Ok(part.len())
    }

    async fn verify(&self, chunk: Option<Current>) -> Result<(), Failure> {
        let Some(chunk) = chunk else { return Ok(()) };
        let index = chunk.chunk();
        let position = usize::try_from(index - self.run.start).unwrap_or(usize::MAX);
        match chunk.finish(self.digests.get(position)) {
            Verdict::Right => {}
            Verdict::Wrong => return Err(Failure::WrongBytes { chunk: index }),
            Verdict::Unclear => return Err(Failure::WrongParts { chunk: index }),
        }
        // Between the sink's word and ours there is nothing to wait for: a request that is abandoned has told both or neither,
        // so that a verified chunk is never written again.
        let permit = self.events.reserve().await;
        if let Some(index) = self.layout.chunk(index) {
            self.sink.verified(index)?;
        }
        if let Ok(permit) = permit {
            permit.send(Event::Verified(self.request, index));
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
