//! One request: asks for a run of chunks, and hashes and writes the bytes as they arrive.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, RANGE};
use tokio::sync::mpsc;
use url::Url;
use wire::{ChunkLayout, Digest, FileId, Zone, range, token::Token};

use super::{
    cursor::ChunkCursor,
    failure::Failure,
    partial_chunks::{ChunkVerdict, PartialChunks, ReceivingChunk},
    refusal,
    request_progress::RequestProgress,
    response::ExpectedResponse,
};
use crate::{
    rate_limiter::RateLimiter,
    schedule::{RequestId, SourceId},
    sink::Sink,
};

/// An event of a request in flight.
#[derive(Debug, Clone)]
pub(crate) enum RequestEvent {
    /// The source sent the head of the expected response.
    Answered(RequestId),
    /// A chunk is written and matches its digest.
    Verified {
        request: RequestId,
        chunk: u32,
        /// Sources that had given other bytes for parts of this chunk.
        faulty: BTreeSet<SourceId>,
    },
}

/// A request to be sent.
pub(crate) struct Fetch {
    pub(crate) request: RequestId,
    pub(crate) source: SourceId,
    pub(crate) client: reqwest::Client,
    pub(crate) url: Url,
    pub(crate) token: Token,
    pub(crate) file: FileId,
    pub(crate) layout: ChunkLayout,
    pub(crate) run: Range<u32>,
    /// One per chunk of the run.
    pub(crate) digests: Vec<Digest>,
    pub(crate) cursor: Arc<ChunkCursor>,
    pub(crate) progress: Arc<RequestProgress>,
    pub(crate) rate_limiter: RateLimiter,
    /// The zone of the source.
    pub(crate) zone: Zone,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) partial_chunks: Arc<PartialChunks>,
    pub(crate) events: mpsc::Sender<RequestEvent>,
}

impl Fetch {
    /// Sends the request and receives its chunks. Dropping the future abandons it: nothing is written after that.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // Of the first chunk, only the missing bytes are requested.
        let first = self.cursor.begin_next();
        let mut current = first.map(|index| self.partial_chunks.resume(index, self.source));
        let mut range = self.layout.bytes_of_run(self.run.clone());
        range.start += current.as_ref().map_or(0, ReceivingChunk::bytes);
        let mut response = self.send(&range).await?;
        let mut left = range.end - range.start;
        while let Some(frame) = response.chunk().await? {
            self.progress.add_arrived(frame.len());
            let batch_size = self.rate_limiter.batch_size(&self.zone).unwrap_or(frame.len()).max(1);
            for mut bytes in frame.chunks(batch_size) {
                self.progress.pass(&self.rate_limiter, &self.zone, bytes.len()).await;
                while !bytes.is_empty() {
                    // All chunks were received, or the remaining ones were given to another source.
                    let Some(chunk) = &mut current else { return Ok(()) };
                    let taken = self.write(chunk, bytes)?;
                    bytes = bytes.get(taken..).unwrap_or_default();
                    left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                    if chunk.bytes() == self.len(chunk) {
                        self.verify(current.take()).await?;
                        let next = self.cursor.begin_next();
                        current = next.map(|index| self.partial_chunks.begin(index, self.source));
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
        let expected = ExpectedResponse { file: self.file, range: range.clone(), file_len: self.layout.size() };
        let bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose()));
        let mut bearer = bearer.map_err(|_| Failure::Answer("the token does not fit into a header".into()))?;
        bearer.set_sensitive(true);
        let request = self
            .client
            .get(self.url.clone())
            .header(AUTHORIZATION, bearer)
            .header(RANGE, range::request(range))
            .header(ACCEPT_ENCODING, "identity");
        let response = request.send().await?;
        let status = response.status();
        if let Err(failure) = expected.check(status, response.headers()) {
            let is_refusal = status.is_client_error() || status.is_server_error();
            return Err(if is_refusal { failure.worded(refusal::words(response).await) } else { failure });
        }
        // The driver drops its receiver only after every request has ended.
        let _ = self.events.send(RequestEvent::Answered(self.request)).await;
        Ok(response)
    }

    fn place(&self, chunk: &ReceivingChunk) -> Range<u64> {
        self.layout.bytes_of_run(chunk.index()..chunk.index() + 1)
    }

    fn len(&self, chunk: &ReceivingChunk) -> u64 {
        let place = self.place(chunk);
        place.end - place.start
    }

    /// Writes those of `bytes` that belong to the chunk. Returns how many these are.
    fn write(&self, chunk: &mut ReceivingChunk, bytes: &[u8]) -> Result<usize, Failure> {
        let offset = self.place(chunk).start + chunk.bytes();
        let missing = usize::try_from(self.len(chunk) - chunk.bytes()).unwrap_or(usize::MAX);
        let part = bytes.get(..missing).unwrap_or(bytes);
        self.sink.write_at(part, offset)?;
        // Hashed right after the copy, while the bytes are in the processor's cache.
        chunk.wrote(part);
        Ok(part.len())
    }

    async fn verify(&self, chunk: Option<ReceivingChunk>) -> Result<(), Failure> {
        let Some(chunk) = chunk else { return Ok(()) };
        let index = chunk.index();
        let position = usize::try_from(index - self.run.start).unwrap_or(usize::MAX);
        let digest = self.digests.get(position);
        let faulty = match chunk.finish(digest) {
            ChunkVerdict::Match { faulty } => faulty,
            ChunkVerdict::Mismatch => return Err(Failure::WrongBytes { chunk: index }),
            ChunkVerdict::MixedMismatch => return Err(Failure::WrongMixedChunk { chunk: index }),
        };
        // Nothing is awaited between the call of the sink and the event: a request that is abandoned has done both or
        // neither, so that a verified chunk is never written again.
        let permit = self.events.reserve().await;
        if let Some((index, digest)) = self.layout.chunk(index).zip(digest) {
            self.sink.verified(index, *digest)?;
        }
        if let Ok(permit) = permit {
            permit.send(RequestEvent::Verified { request: self.request, chunk: index, faulty });
        }
        Ok(())
    }
}
