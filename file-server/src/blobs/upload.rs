//! Receiving a chunk: hashed while it is written at its place; it counts only once it matched and was synced.

use std::{ops::Range, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::{sync::oneshot, time::timeout};
use wire::{ChunkIndex, Digest, Hasher};

use super::{Blob, BlobError, Blobs, blob::Turn, blocking, commit::Verified};

/// Bytes gathered before a thread is asked to hash and write them.
const GATHERED: usize = 128 * 1024;

/// Without a byte of the body for this long the request is given up.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// A body may not come slower than this on the whole, in bytes per second: it keeps others from writing the chunk.
const SLOWEST: u64 = 4096;

/// How a chunk came to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// By this request.
    Now,
    /// By an earlier one.
    Before,
}

/// What was written so far.
struct Progress {
    turn: Turn,
    hasher: Hasher,
    at: u64,
}

impl Blobs {
    /// Receives one chunk; answers only once it is synced.
    pub(crate) async fn receive(
        &self,
        blob: &Arc<Blob>,
        chunk: ChunkIndex,
        digest: Digest,
        body: Body,
    ) -> Result<Received, BlobError> {
        let turn = timeout(BODY_WAIT, blob.turn(chunk)).await.map_err(|_| BlobError::Busy)?;
        if blob.holds(chunk) {
            let held = self.store.chunk_digest(blob.id, chunk.get()).await?;
            let place = blob.layout.bytes_of(chunk);
            bounded(&place, drain(body, &place)).await?;
            return if held == Some(digest) { Ok(Received::Before) } else { Err(BlobError::Conflict) };
        }
        let (turn, found) = bounded(&blob.layout.bytes_of(chunk), self.write(turn, body)).await?;
        if found != digest {
            self.metrics.upload_mismatches.one();
            tracing::warn!(file = %blob.id, chunk = chunk.get(), "an uploaded chunk does not match its digest");
            return Err(BlobError::Mismatch);
        }
        let (done, synced) = oneshot::channel();
        self.commits.send(Verified { turn, digest, done }).await.map_err(|_| BlobError::Unsynced)?;
        synced.await.map_err(|_| BlobError::Unsynced)??;
        self.metrics.upload_chunks.one();
        Ok(Received::Now)
    }

    /// Writes a body at the chunk's place; answers the digest of what was written.
    async fn write(&self, turn: Turn, body: Body) -> Result<(Turn, Digest), BlobError> {
        let place = turn.blob.layout.bytes_of(turn.chunk);
        let expected = place.end - place.start;
        let mut progress = Progress { turn, hasher: Hasher::new(), at: place.start };
        let mut stream = body.into_data_stream();
        let (mut gathered, mut waiting, mut seen) = (Vec::new(), 0, 0_u64);
        while let Some(frame) = timeout(BODY_WAIT, stream.next()).await.map_err(|_| BlobError::Stalled)? {
            let frame = frame.map_err(|_| BlobError::Broken)?;
            waiting += frame.len();
            seen = seen.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
            if seen > expected {
                return Err(BlobError::Length { expected });
            }
            gathered.push(frame);
            if waiting >= GATHERED {
                progress = progress.write(std::mem::take(&mut gathered)).await?;
                waiting = 0;
            }
        }
        if seen < expected {
            return Err(BlobError::Length { expected });
        }
        progress = progress.write(gathered).await?;
        self.metrics.upload_bytes.add(expected);
        Ok((progress.turn, progress.hasher.finish()))
    }
}

impl Progress {
    async fn write(mut self, frames: Vec<Bytes>) -> Result<Self, BlobError> {
        let written = blocking(move || {
            for frame in frames {
                self.hasher.update(&frame);
                self.turn.blob.file.write_all_at(&frame, self.at)?;
                self.at = self.at.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
            }
            Ok(self)
        });
        Ok(written.await?)
    }
}

/// Gives the body of the chunk at `place` up when it comes too slowly.
async fn bounded<T>(place: &Range<u64>, receiving: impl Future<Output = Result<T, BlobError>>) -> Result<T, BlobError> {
    let patience = BODY_WAIT + Duration::from_secs((place.end - place.start) / SLOWEST);
    timeout(patience, receiving).await.unwrap_or(Err(BlobError::Stalled))
}

/// Reads a body that is not needed, so that the connection can go on. No more than a chunk of it.
async fn drain(body: Body, place: &Range<u64>) -> Result<(), BlobError> {
    let mut left = place.end - place.start;
    let mut stream = body.into_data_stream();
    while let Some(frame) = timeout(BODY_WAIT, stream.next()).await.map_err(|_| BlobError::Stalled)? {
        let frame = frame.map_err(|_| BlobError::Broken)?;
        let Some(rest) = left.checked_sub(u64::try_from(frame.len()).unwrap_or(u64::MAX)) else { break };
        left = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up() {
        let drip = futures::stream::repeat(()).then(async |()| {
            tokio::time::sleep(BODY_WAIT / 2).await;
            Ok::<_, std::io::Error>("x")
        });
        let place = 0..1 << 20;
        let given_up = bounded(&place, drain(Body::from_stream(Box::pin(drip)), &place)).await;
        assert!(matches!(given_up, Err(BlobError::Stalled)));
    }
}
