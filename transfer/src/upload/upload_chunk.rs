//! One chunk of a file that is being published.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use futures::stream;
use wire::{ChunkIndex, ChunkLayout, Digest, Hasher};

use crate::rate_limiter::RateLimiter;

/// Largest chunk that stays in memory until all targets have it; larger ones are read again for each target.
const MAX_BUFFERED_CHUNK_LEN: u64 = 4 << 20;
/// Bytes read at once.
const READ_LEN: u64 = 256 << 10;
/// Bytes handed to a connection at once: few enough that progress shows on a slow one.
const BODY_SLICE_LEN: usize = 64 << 10;

/// A chunk with its digest.
#[derive(Debug, Clone)]
pub(super) struct UploadChunk {
    pub(super) index: ChunkIndex,
    pub(super) len: u64,
    pub(super) digest: Digest,
    bytes: ChunkBytes,
}

#[derive(Debug, Clone)]
enum ChunkBytes {
    Buffered(Bytes),
    InFile { file: Arc<File>, offset: u64 },
}

impl UploadChunk {
    /// Reads and hashes a chunk, and adds its bytes to the hash of the `whole`. Blocks.
    pub(super) fn read(
        file: &Arc<File>,
        layout: ChunkLayout,
        index: ChunkIndex,
        whole: &mut Hasher,
    ) -> io::Result<Self> {
        let range = layout.bytes_of(index);
        let (len, offset) = (range.end - range.start, range.start);
        let is_buffered = len <= MAX_BUFFERED_CHUNK_LEN;
        let mut hasher = Hasher::new();
        let mut buffer = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let part = read_part(file, at, if is_buffered { len } else { READ_LEN.min(range.end - at) })?;
            whole.update(&part);
            hasher.update(&part);
            at += u64::try_from(part.len()).unwrap_or(u64::MAX);
            buffer = part;
        }
        let bytes = if is_buffered {
            ChunkBytes::Buffered(buffer.into())
        } else {
            ChunkBytes::InFile { file: Arc::clone(file), offset }
        };
        Ok(Self { index, len, digest: hasher.finish(), bytes })
    }

    /// Returns the bytes as the body of a request, no faster than the limiter allows. `on_taken` is called whenever the
    /// connection takes some.
    pub(super) fn body(
        &self,
        rate_limiter: &RateLimiter,
        on_taken: impl Fn() + Send + Sync + 'static,
    ) -> reqwest::Body {
        let batch_size = rate_limiter.total_batch_size();
        match (&self.bytes, batch_size) {
            (ChunkBytes::Buffered(bytes), Some(batch_size)) => {
                let rate_limiter = rate_limiter.clone();
                let parts = stream::unfold(bytes.clone(), move |mut left| {
                    on_taken();
                    let (slice, limiter) = (left.split_to(left.len().min(batch_size)), rate_limiter.clone());
                    async move {
                        limiter.acquire_total(slice.len()).await;
                        (!slice.is_empty()).then_some((Ok::<_, io::Error>(slice), left))
                    }
                });
                reqwest::Body::wrap_stream(parts)
            }
            (ChunkBytes::Buffered(bytes), None) => {
                let mut left = bytes.clone();
                reqwest::Body::wrap_stream(stream::iter(std::iter::from_fn(move || {
                    on_taken();
                    let slice = left.split_to(left.len().min(BODY_SLICE_LEN));
                    (!slice.is_empty()).then_some(Ok::<_, io::Error>(slice))
                })))
            }
            (ChunkBytes::InFile { file, offset }, _) => {
                let (end, start) = (offset + self.len, ReadPosition { file: Arc::clone(file), at: *offset });
                let len = batch_size.map_or(READ_LEN, |size| u64::try_from(size).unwrap_or(READ_LEN).min(READ_LEN));
                let rate_limiter = rate_limiter.clone();
                let parts = stream::try_unfold(start, move |position| {
                    on_taken();
                    let limiter = rate_limiter.clone();
                    async move {
                        let next = position.read_next(end, len).await?;
                        limiter.acquire_total(next.as_ref().map_or(0, |(part, _)| part.len())).await;
                        Ok::<_, io::Error>(next)
                    }
                });
                reqwest::Body::wrap_stream(parts)
            }
        }
    }
}

/// The position in the file of a chunk that is read again.
struct ReadPosition {
    file: Arc<File>,
    at: u64,
}

impl ReadPosition {
    /// Reads the next part of `len` bytes, or what is left before `end`. Returns it with the position after it.
    async fn read_next(self, end: u64, len: u64) -> io::Result<Option<(Bytes, Self)>> {
        let Self { file, at } = self;
        if at >= end {
            return Ok(None);
        }
        let len = len.min(end - at);
        let reader = Arc::clone(&file);
        let part = tokio::task::spawn_blocking(move || read_part(&reader, at, len));
        let part = part.await.map_err(io::Error::other)??;
        Ok(Some((Bytes::from(part), Self { file, at: at + len })))
    }
}

fn read_part(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut part = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, at)?;
    Ok(part)
}
