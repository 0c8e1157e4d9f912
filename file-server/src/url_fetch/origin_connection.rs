//! A connection to the origin: requests one after the other, whose chunks are hashed and written while they stream by.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chunk_store::{Blob, BlobError, ChunkWriter, WrittenChunk};
use origin::{ContentVersion, OriginError, Origins};
use tokio::{sync::mpsc, time::timeout};
use wire::{ChunkLayout, Digest, Hasher, OriginUrl, job::JobReason};

use super::span_queue::SpanQueue;
use crate::state::AppState;

/// Time that another writer may keep a chunk that this connection should write.
const WRITER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests in a row that may fail without a byte received.
const MAX_TRIES: u32 = 3;
/// Pause after the first failed request; it grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// A chunk that was received whole.
#[derive(Debug)]
pub(super) enum FetchedChunk {
    /// Its bytes are written; it counts once they are synced.
    Written { n: u32, chunk: WrittenChunk },
    /// Chunk that was hashed and not kept, or was stored another way meanwhile.
    Hashed { n: u32, digest: Digest },
}

/// Reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Store(#[from] BlobError),
}

impl ConnectionError {
    /// Returns true if the origin refused the request because it is too busy.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Origin(error) if error.reason == JobReason::Busy)
    }
}

/// Everything that the connections of one lease share.
#[derive(Debug)]
pub(super) struct OriginConnection {
    pub(super) state: Arc<AppState>,
    pub(super) origins: Origins,
    pub(super) url: OriginUrl,
    pub(super) version: ContentVersion,
    pub(super) layout: ChunkLayout,
    /// The blob of the chunks; absent when they are only hashed.
    pub(super) blob: Option<Arc<Blob>>,
    pub(super) span: Arc<SpanQueue>,
    /// Bytes that came from the origin, wasted ones included.
    pub(super) bytes: Arc<AtomicU64>,
    pub(super) fetched: mpsc::Sender<FetchedChunk>,
}

/// A chunk being received.
enum CurrentChunk {
    Stored(ChunkWriter),
    Hashed {
        hasher: Hasher,
        left: u64,
    },
    /// Chunk that was stored another way: its bytes are passed over.
    Skipped {
        left: u64,
    },
}

impl CurrentChunk {
    const fn left(&self) -> u64 {
        match self {
            Self::Stored(writer) => writer.remaining(),
            Self::Hashed { left, .. } | Self::Skipped { left } => *left,
        }
    }
}

/// Position of a connection in its chunks. Bytes of a chunk that came before a request failed are not requested again.
struct Position {
    n: u32,
    end: u32,
    current: Option<CurrentChunk>,
}

impl OriginConnection {
    /// Fetches until nothing is left for this connection.
    pub(super) async fn run(self: Arc<Self>) -> Result<(), ConnectionError> {
        while let Some(run) = self.span.take() {
            let mut position = Position { n: run.start, end: run.end, current: None };
            if let Err(error) = self.fetch(&mut position).await {
                // An origin with a limit refuses one connection and serves the others.
                if error.is_busy() {
                    self.span.put_back(position.n..position.end);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn fetch(&self, position: &mut Position) -> Result<(), ConnectionError> {
        let mut tries = 0;
        loop {
            let before = self.bytes.load(Ordering::Relaxed);
            let Err(error) = self.request(position).await else { return Ok(()) };
            let again = matches!(&error, ConnectionError::Origin(fault) if fault.reason == JobReason::Unreachable);
            tries = if self.bytes.load(Ordering::Relaxed) > before { 1 } else { tries + 1 };
            if !again || tries >= MAX_TRIES {
                return Err(error);
            }
            tracing::debug!(%error, chunk = position.n, url = %self.url, "A request to {} failed; trying again", self.url);
            tokio::time::sleep(RETRY_PAUSE * tries).await;
        }
    }

    /// Requests everything that is left at the position.
    async fn request(&self, position: &mut Position) -> Result<(), ConnectionError> {
        let Some(range) = self.range(position).await? else { return Ok(()) };
        let mut body = self.origins.range(&self.url, &self.version, range).await?;
        while let Some(bytes) = body.next().await? {
            let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.bytes.fetch_add(len, Ordering::Relaxed);
            self.state.metrics.origin_bytes.inc_by(len);
            if !self.receive(position, bytes).await? {
                break;
            }
        }
        Ok(())
    }

    /// Returns the bytes that are left at the position. Chunks that are stored already are passed over.
    async fn range(&self, position: &mut Position) -> Result<Option<Range<u64>>, ConnectionError> {
        loop {
            let end = position.end.min(self.span.end());
            if position.n >= end {
                return Ok(None);
            }
            let chunk = self.bytes_of(position.n);
            let current = match position.current.take() {
                Some(current) => current,
                None => self.begin(position.n).await?,
            };
            let left = current.left();
            if matches!(current, CurrentChunk::Skipped { .. }) {
                self.finish(position.n, current).await?;
                position.n += 1;
                continue;
            }
            position.current = Some(current);
            return Ok(Some(chunk.end.saturating_sub(left)..self.layout.bytes_of_run(position.n..end).end));
        }
    }

    /// Takes received bytes; false when what follows belongs to another lease now.
    async fn receive(&self, position: &mut Position, mut bytes: Bytes) -> Result<bool, ConnectionError> {
        while !bytes.is_empty() {
            if position.n >= self.span.end().min(position.end) {
                position.current = None;
                return Ok(false);
            }
            let mut current = match position.current.take() {
                Some(current) => current,
                None => self.begin(position.n).await?,
            };
            let most = usize::try_from(current.left()).unwrap_or(usize::MAX);
            let part = bytes.split_to(bytes.len().min(most));
            let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
            match &mut current {
                CurrentChunk::Stored(writer) => writer.write(part).await?,
                CurrentChunk::Hashed { hasher, left } => {
                    hasher.update(&part);
                    *left = left.saturating_sub(len);
                }
                CurrentChunk::Skipped { left } => *left = left.saturating_sub(len),
            }
            if current.left() > 0 {
                position.current = Some(current);
            } else {
                self.finish(position.n, current).await?;
                position.n += 1;
            }
        }
        Ok(true)
    }

    /// Begins with a chunk.
    async fn begin(&self, n: u32) -> Result<CurrentChunk, BlobError> {
        let place = self.bytes_of(n);
        let left = place.end - place.start;
        let (Some(blob), Some(chunk)) = (&self.blob, self.layout.chunk(n)) else {
            return Ok(CurrentChunk::Hashed { hasher: Hasher::new(), left });
        };
        let writer = timeout(WRITER_TIMEOUT, self.state.blobs.chunk_writer(blob, chunk)).await;
        let writer = writer.map_err(|_| BlobError::ChunkBusy)?;
        Ok(writer.map_or(CurrentChunk::Skipped { left }, CurrentChunk::Stored))
    }

    /// Passes a chunk on that was received whole.
    async fn finish(&self, n: u32, current: CurrentChunk) -> Result<(), BlobError> {
        let fetched = match (current, &self.blob) {
            (CurrentChunk::Stored(writer), _) => Some(FetchedChunk::Written { n, chunk: writer.finish().await? }),
            (CurrentChunk::Hashed { hasher, .. }, _) => Some(FetchedChunk::Hashed { n, digest: hasher.finish() }),
            (CurrentChunk::Skipped { .. }, Some(blob)) => {
                let digest = self.state.db.chunk_digest(blob.id(), n).await?;
                digest.map(|digest| FetchedChunk::Hashed { n, digest })
            }
            (CurrentChunk::Skipped { .. }, None) => None,
        };
        self.span.finish(n);
        if let Some(fetched) = fetched {
            // The receiver is gone only together with this connection.
            let _ = self.fetched.send(fetched).await;
        }
        Ok(())
    }

    fn bytes_of(&self, n: u32) -> Range<u64> {
        self.layout.bytes_of_run(n..n.saturating_add(1))
    }
}
