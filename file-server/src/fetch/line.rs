//! One line to the origin: requests one after the other, each hashed chunk by chunk as it streams by.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use origin::{Fault, Origins, Wanted};
use tokio::{sync::mpsc, time::timeout};
use wire::{Digest, Hasher, Layout, OriginUrl, job::Reason};

use super::work::Work;
use crate::{
    blobs::{Arrived, Blob, BlobError, Incoming},
    server::Server,
};

/// How long somebody else may keep a chunk that this line should write.
const TURN: Duration = Duration::from_secs(10);
/// Connections that may break in a row without having brought a byte.
const TRIES: u32 = 3;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(300);

/// A chunk that came whole.
#[derive(Debug)]
pub(super) enum Fetched {
    /// Its bytes are written; it counts once they are synced.
    Written(u32, Arrived),
    /// It was hashed and not kept, or another way brought it here meanwhile.
    Known(u32, Digest),
}

/// Why a line does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Origin(#[from] Fault),
    #[error(transparent)]
    Disk(#[from] BlobError),
}

/// What the lines of one lease have in common.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) server: Arc<Server>,
    pub(super) origins: Origins,
    pub(super) url: OriginUrl,
    pub(super) wanted: Wanted,
    pub(super) layout: Layout,
    /// Where the chunks are kept; nowhere when they are only compared.
    pub(super) blob: Option<Arc<Blob>>,
    pub(super) work: Arc<Work>,
    /// Bytes that came from the origin, wasted ones included.
    pub(super) bytes: Arc<AtomicU64>,
    pub(super) fetched: mpsc::Sender<Fetched>,
}

/// A chunk on its way.
enum Current {
    Kept(Incoming),
    Compared {
        hasher: Hasher,
        left: u64,
    },
    /// It came here another way: its bytes are passed over.
    Held {
        left: u64,
    },
}

impl Current {
    const fn left(&self) -> u64 {
        match self {
            Self::Kept(incoming) => incoming.left(),
            Self::Compared { left, .. } | Self::Held { left } => *left,
        }
    }
}

/// Where in its chunks a line is. What came of a chunk before a connection broke is not asked for again.
struct Place {
    n: u32,
    end: u32,
    current: Option<Current>,
}

impl Line {
    /// Fetches until nothing is left for this line.
    pub(super) async fn run(self: Arc<Self>) -> Result<(), Broken> {
        while let Some(run) = self.work.take() {
            self.fetch(Place { n: run.start, end: run.end, current: None }).await?;
        }
        Ok(())
    }

    async fn fetch(&self, mut place: Place) -> Result<(), Broken> {
        let mut tries = 0;
        loop {
            let before = self.bytes.load(Ordering::Relaxed);
            let Err(broken) = self.request(&mut place).await else { return Ok(()) };
            let again = matches!(&broken, Broken::Origin(fault) if fault.reason == Reason::Unreachable);
            tries = if self.bytes.load(Ordering::Relaxed) > before { 1 } else { tries + 1 };
            if !again || tries >= TRIES {
                return Err(broken);
            }
            tracing::debug!(error = %broken, chunk = place.n, "a connection to an origin broke; trying again");
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    /// One request for all that is left of the place.
    async fn request(&self, place: &mut Place) -> Result<(), Broken> {
        let Some(range) = self.range(place).await? else { return Ok(()) };
        let mut body = self.origins.range(&self.url, &self.wanted, range).await?;
        while let Some(bytes) = body.next().await? {
            let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.bytes.fetch_add(len, Ordering::Relaxed);
            self.server.metrics.origin_bytes.inc_by(len);
            if !self.take(place, bytes).await? {
                break;
            }
        }
        Ok(())
    }

    /// The bytes that are left of the place. Chunks that are here already are passed over.
    async fn range(&self, place: &mut Place) -> Result<Option<Range<u64>>, Broken> {
        loop {
            let end = place.end.min(self.work.end());
            if place.n >= end {
                return Ok(None);
            }
            let chunk = self.bytes_of(place.n);
            let current = match place.current.take() {
                Some(current) => current,
                None => self.begin(place.n).await?,
            };
            let left = current.left();
            if matches!(current, Current::Held { .. }) {
                self.finish(place.n, current).await?;
                place.n += 1;
                continue;
            }
            place.current = Some(current);
            return Ok(Some(chunk.end.saturating_sub(left)..self.layout.bytes_of_run(place.n..end).end));
        }
    }

    /// Takes what came; false when somebody else took over what follows.
    async fn take(&self, place: &mut Place, mut bytes: Bytes) -> Result<bool, Broken> {
        while !bytes.is_empty() {
            if place.n >= self.work.end().min(place.end) {
                place.current = None;
                return Ok(false);
            }
            let mut current = match place.current.take() {
                Some(current) => current,
                None => self.begin(place.n).await?,
            };
            let most = usize::try_from(current.left()).unwrap_or(usize::MAX);
            let part = bytes.split_to(bytes.len().min(most));
            let len = u64::try_from(part.len()).unwrap_or(u64::MAX);
            match &mut current {
                Current::Kept(incoming) => self.server.blobs.take(incoming, part).await?,
                Current::Compared { hasher, left } => {
                    hasher.update(&part);
                    *left = left.saturating_sub(len);
                }
                Current::Held { left } => *left = left.saturating_sub(len),
            }
            if current.left() > 0 {
                place.current = Some(current);
            } else {
                self.finish(place.n, current).await?;
                place.n += 1;
            }
        }
        Ok(true)
    }

    /// Begins with a chunk.
    async fn begin(&self, n: u32) -> Result<Current, BlobError> {
        let place = self.bytes_of(n);
        let left = place.end - place.start;
        let (Some(blob), Some(chunk)) = (&self.blob, self.layout.chunk(n)) else {
            return Ok(Current::Compared { hasher: Hasher::new(), left });
        };
        let begun = timeout(TURN, self.server.blobs.begin(blob, chunk)).await.map_err(|_| BlobError::Busy)?;
        Ok(begun.map_or(Current::Held { left }, Current::Kept))
    }

    /// Passes a chunk on that is here whole.
    async fn finish(&self, n: u32, current: Current) -> Result<(), BlobError> {
        let fetched = match (current, &self.blob) {
            (Current::Kept(incoming), _) => Some(Fetched::Written(n, self.server.blobs.arrive(incoming).await?)),
            (Current::Compared { hasher, .. }, _) => Some(Fetched::Known(n, hasher.finish())),
            (Current::Held { .. }, Some(blob)) => {
                let digest = self.server.store.chunk_digest(blob.id(), n).await?;
                digest.map(|digest| Fetched::Known(n, digest))
            }
            (Current::Held { .. }, None) => None,
        };
        self.work.finish(n);
        if let Some(fetched) = fetched {
            // Whoever would take it is gone only together with this line.
            let _ = self.fetched.send(fetched).await;
        }
        Ok(())
    }

    fn bytes_of(&self, n: u32) -> Range<u64> {
        self.layout.bytes_of_run(n..n.saturating_add(1))
    }
}
