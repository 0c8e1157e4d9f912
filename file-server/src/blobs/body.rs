//! The body of an answer: bytes of a blob, read just before they are sent.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::{Blob, Pool, pool::Buffer};
use crate::{metrics::Metrics, running};

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Segment {
    /// Bytes of the blob.
    Content(Range<u64>),
    /// What stands between them.
    Text(Bytes),
}

/// A body of known length. What is in the page cache is read at once, on the thread that sends it; only what is not goes
/// to the blocking pool. No mapping: a file that shrinks must not kill the process.
#[derive(Debug)]
pub(crate) struct RangeBody {
    blob: Arc<Blob>,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    running: running::Body,
    segments: VecDeque<Segment>,
    remaining: u64,
    cold: Option<JoinHandle<io::Result<Buffer>>>,
}

impl RangeBody {
    /// A body that counts as running until it is dropped.
    pub(crate) fn new(
        blob: Arc<Blob>,
        pool: &Arc<Pool>,
        metrics: &Arc<Metrics>,
        running: running::Body,
        segments: Vec<Segment>,
    ) -> Self {
        let segments: VecDeque<_> = segments.into_iter().filter(|segment| segment.len() > 0).collect();
        let remaining = segments.iter().map(Segment::len).sum();
        Self { blob, pool: pool.clone(), metrics: metrics.clone(), running, segments, remaining, cold: None }
    }

    /// How many bytes it has left.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    fn read(&mut self, range: Range<u64>, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        let mut buffer = self.pool.take();
        let most = range.end - range.start;
        if let Some(n) = self.blob.read_at_once(buffer.space(most), range.start)? {
            return Poll::Ready(Ok(buffer.filled(n)));
        }
        self.metrics.cold_reads.one();
        let blob = self.blob.clone();
        let cold = tokio::task::spawn_blocking(move || {
            let n = blob.file.read_at(buffer.space(most), range.start)?;
            Ok(buffer.filled(n))
        });
        self.poll_cold(cold, cx)
    }

    fn poll_cold(
        &mut self,
        mut cold: JoinHandle<io::Result<Buffer>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Buffer>> {
        match Pin::new(&mut cold).poll(cx) {
            Poll::Ready(read) => Poll::Ready(read.map_err(io::Error::other)?),
            Poll::Pending => {
                self.cold = Some(cold);
                Poll::Pending
            }
        }
    }

    /// Hands out what was read; nothing read means that the file is shorter than it was.
    fn deliver(&mut self, buffer: Buffer) -> io::Result<Bytes> {
        let read = u64::try_from(buffer.as_ref().len()).unwrap_or(u64::MAX);
        if read == 0 {
            tracing::error!(file = %self.blob.id, "a replica is shorter on disk than it was: aborting the answer");
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(Segment::Content(range)) = self.segments.front_mut() {
            range.start = range.end.min(range.start.saturating_add(read));
            if range.is_empty() {
                self.segments.pop_front();
            }
        }
        self.metrics.content_bytes.add(read);
        Ok(Bytes::from_owner(buffer))
    }
}

impl Body for RangeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.running.is_cut() {
            this.metrics.bodies_cut.one();
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let bytes = match (this.cold.take(), this.segments.front_mut()) {
            (Some(cold), _) => {
                let buffer = ready!(this.poll_cold(cold, cx))?;
                this.deliver(buffer)?
            }
            (None, None) => return Poll::Ready(None),
            (None, Some(Segment::Content(range))) => {
                let range = range.clone();
                let buffer = ready!(this.read(range, cx))?;
                this.deliver(buffer)?
            }
            (None, Some(Segment::Text(text))) => {
                let text = std::mem::take(text);
                this.segments.pop_front();
                text
            }
        };
        this.remaining = this.remaining.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.segments.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Content(range) => range.end.saturating_sub(range.start),
            Self::Text(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
        }
    }
}
