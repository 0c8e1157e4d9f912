//! Receiving a chunk: hashed while it is written at its place; it counts only once it matched and was synced.

use std::{ops::Range, sync::Arc, time::Duration};

use axum::body::Body;
use futures::StreamExt as _;
use tokio::time::timeout;
use wire::{ChunkIndex, Digest};

use super::{
    Blob, BlobError, Blobs,
    incoming::{Arrived, Incoming},
};
use crate::volume::Volume;

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

impl Blobs {
    /// Receives one chunk; answers only once it is synced.
    pub(crate) async fn receive(
        &self,
        blob: &Arc<Blob>,
        chunk: ChunkIndex,
        digest: Digest,
        body: Body,
    ) -> Result<Received, BlobError> {
        if *self.volume.borrow() == Volume::Low {
            return Err(BlobError::Disk(std::io::ErrorKind::StorageFull.into()));
        }
        let turn = timeout(BODY_WAIT, blob.turn(chunk)).await.map_err(|_| BlobError::Busy)?;
        if blob.holds(chunk) {
            let held = self.store.chunk_digest(blob.id, chunk.get()).await?;
            let place = blob.layout.bytes_of(chunk);
            bounded(&place, drain(body, &place)).await?;
            return if held == Some(digest) { Ok(Received::Before) } else { Err(BlobError::Conflict) };
        }
        let arrived = bounded(&blob.layout.bytes_of(chunk), self.write_body(Incoming::new(turn), body)).await?;
        if arrived.digest != digest {
            self.metrics.upload_mismatches.inc();
            tracing::warn!(file = %blob.id, chunk = chunk.get(), "an uploaded chunk does not match its digest");
            return Err(BlobError::Mismatch);
        }
        self.count_once_synced(arrived).await?;
        self.metrics.upload_chunks.inc();
        Ok(Received::Now)
    }

    /// Writes a body at the chunk's place.
    async fn write_body(&self, mut incoming: Incoming, body: Body) -> Result<Arrived, BlobError> {
        let expected = incoming.left();
        let mut stream = body.into_data_stream();
        while let Some(frame) = timeout(BODY_WAIT, stream.next()).await.map_err(|_| BlobError::Stalled)? {
            self.take(&mut incoming, frame.map_err(|_| BlobError::Broken)?).await?;
        }
        let arrived = self.arrive(incoming).await?;
        self.metrics.upload_bytes.inc_by(expected);
        Ok(arrived)
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
