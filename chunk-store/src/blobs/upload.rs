//! Receipt of one chunk from a request: hashed while it is written at its place; it counts once it matched and was synced.

use std::{error::Error, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::timeout;
use transfer::upload::{BODY_GRACE_TIME, MIN_ACCEPTED_BODY_RATE};
use wire::{ChunkIndex, Digest};

use crate::{Blob, BlobError, BlobStore, ChunkWriter, VolumeState, WrittenChunk};

/// Time without a byte of the body after which the request is abandoned.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Receipt of an uploaded chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkReceipt {
    /// Chunk that this request stored.
    Stored,
    /// An earlier request stored it.
    AlreadyStored,
}

impl BlobStore {
    /// Receives one chunk; returns only once it is synced.
    ///
    /// # Errors
    /// When the chunk is not kept: see [`BlobError`].
    pub async fn receive_chunk<E: Error>(
        &self,
        blob: &Arc<Blob>,
        chunk: ChunkIndex,
        digest: Digest,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<ChunkReceipt, BlobError> {
        if self.volume().state() == VolumeState::LowSpace {
            return Err(BlobError::full());
        }
        let place = blob.layout().bytes_of(chunk);
        let writer = timeout(BODY_TIMEOUT, self.chunk_writer(blob, chunk)).await.map_err(|_| BlobError::ChunkBusy)?;
        let Some(writer) = writer else {
            let stored = self.records().chunk_digest(blob.id(), chunk.get()).await?;
            within_min_rate(&place, drain(body, &place)).await?;
            self.check_folder().await?;
            let same = stored == Some(digest);
            return if same { Ok(ChunkReceipt::AlreadyStored) } else { Err(BlobError::ChunkConflict) };
        };
        let written = within_min_rate(&place, self.write_body(writer, body)).await?;
        if written.digest() != digest {
            self.metrics().upload_mismatches.inc();
            let (id, n) = (blob.id(), chunk.get());
            tracing::warn!(file = %id, chunk = n, "Uploaded chunk {n} of file {id} does not match its digest");
            return Err(BlobError::DigestMismatch);
        }
        self.commit_chunk(written).await?;
        self.metrics().upload_chunks.inc();
        Ok(ChunkReceipt::Stored)
    }

    async fn write_body<E: Error>(
        &self,
        mut writer: ChunkWriter,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<WrittenChunk, BlobError> {
        let expected = writer.remaining();
        while let Some(frame) = timeout(BODY_TIMEOUT, body.next()).await.map_err(|_| BlobError::BodyStalled)? {
            writer.write(frame.map_err(|_| BlobError::BodyIncomplete)?).await?;
        }
        let written = writer.finish().await?;
        self.metrics().upload_bytes.inc_by(expected);
        Ok(written)
    }
}

/// Abandons the body of the chunk at `place` when it comes too slowly: a slow one keeps others from writing the chunk.
async fn within_min_rate<T>(
    place: &Range<u64>,
    receiving: impl Future<Output = Result<T, BlobError>>,
) -> Result<T, BlobError> {
    let limit = BODY_GRACE_TIME + Duration::from_secs((place.end - place.start) / MIN_ACCEPTED_BODY_RATE);
    timeout(limit, receiving).await.unwrap_or(Err(BlobError::BodyStalled))
}

/// Reads a body that is not needed, so that the connection can go on. No more than a chunk of it.
async fn drain<E: Error>(
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    place: &Range<u64>,
) -> Result<(), BlobError> {
    let mut left = place.end - place.start;
    while let Some(frame) = timeout(BODY_TIMEOUT, body.next()).await.map_err(|_| BlobError::BodyStalled)? {
        let frame = frame.map_err(|_| BlobError::BodyIncomplete)?;
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
            tokio::time::sleep(BODY_TIMEOUT / 2).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let place = 0..1 << 20;
        let given_up = within_min_rate(&place, drain(Box::pin(drip), &place)).await;
        assert!(matches!(given_up, Err(BlobError::BodyStalled)));
    }
}
