//! The body of an answer: pieces of a blob, which the connection sends without their entering this process.

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

use super::{Blob, Blobs, blocking};
use crate::{
    running,
    sendfile::{MOST, Outlet},
};

/// How far apart to look whether a piece is in memory: the kernel reads ahead in steps of this size.
const STEP: u64 = 128 * 1024;

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Segment {
    /// Bytes of the blob.
    Content(Range<u64>),
    /// What stands between them.
    Text(Bytes),
}

/// A body of known length. What is in the page cache is sent at once; what is not is first read into it on the blocking
/// pool, because the thread that sends must not wait for a disk.
#[derive(Debug)]
pub(crate) struct RangeBody {
    blobs: Arc<Blobs>,
    blob: Arc<Blob>,
    outlet: Outlet,
    running: Arc<running::Body>,
    segments: VecDeque<Segment>,
    remaining: u64,
    warming: Option<JoinHandle<io::Result<()>>>,
}

impl RangeBody {
    /// A body that counts as running until its last piece is sent, for the connection that `outlet` belongs to.
    pub(crate) fn new(
        (blobs, blob): (&Arc<Blobs>, Arc<Blob>),
        outlet: Outlet,
        running: running::Body,
        segments: Vec<Segment>,
    ) -> Self {
        let segments: VecDeque<_> = segments.into_iter().filter(|segment| segment.len() > 0).collect();
        let remaining = segments.iter().map(Segment::len).sum();
        let running = Arc::new(running);
        Self { blobs: blobs.clone(), blob, outlet, running, segments, remaining, warming: None }
    }

    /// How many bytes it has left.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next piece of `range`, once it is in memory.
    fn poll_piece(&mut self, range: &Range<u64>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let most = u64::try_from(MOST).unwrap_or(u64::MAX);
        let piece = range.start..range.end.min(range.start.saturating_add(most));
        self.check(&piece)?;
        if let Some(warming) = &mut self.warming {
            let warmed = ready!(Pin::new(warming).poll(cx)).map_err(io::Error::other)?;
            self.warming = None;
            // Bytes that the disk does not give back are looked into.
            warmed.inspect_err(|_| self.blobs.suspects.add(self.blob.id))?;
        } else if !self.blob.is_in_memory(&piece, STEP)? {
            self.blobs.metrics.cold_reads.inc();
            let (blob, piece) = (self.blob.clone(), piece);
            let readers = self.blobs.readers.clone();
            self.warming = Some(tokio::spawn(async move {
                let _reader = readers.acquire_owned().await;
                blocking(move || warm(&blob, &piece)).await
            }));
            return self.poll_piece(range, cx);
        }
        self.blobs.metrics.content_bytes.inc_by(piece.end - piece.start);
        Poll::Ready(Ok(self.outlet.stand_in(&self.blob.file, piece, &self.running)))
    }

    /// Nothing is promised that is not there any more: what was promised already ends with the connection.
    fn check(&self, piece: &Range<u64>) -> io::Result<()> {
        if !self.blob.has_its_length()? {
            self.blobs.suspects.add(self.blob.id);
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.blob.holds_bytes(piece) { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }

    /// Takes `length` bytes off the front.
    fn advance(&mut self, length: u64) {
        self.remaining = self.remaining.saturating_sub(length);
        let done = match self.segments.front_mut() {
            Some(Segment::Content(range)) => {
                range.start = range.end.min(range.start.saturating_add(length));
                range.is_empty()
            }
            Some(Segment::Text(_)) | None => true,
        };
        if done {
            self.segments.pop_front();
        }
    }
}

/// Reads a piece into the page cache.
fn warm(blob: &Blob, piece: &Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(STEP).unwrap_or(MOST)];
    let mut at = piece.start;
    while at < piece.end {
        let n = blob.file.read_at(&mut buffer, at)?;
        if n == 0 {
            // The connection finds out by itself and ends.
            return Ok(());
        }
        at = at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
    Ok(())
}

impl Body for RangeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.running.is_cut() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let bytes = match this.segments.front() {
            None => return Poll::Ready(None),
            Some(Segment::Text(text)) => text.clone(),
            Some(Segment::Content(range)) => {
                let range = range.clone();
                ready!(this.poll_piece(&range, cx))?
            }
        };
        this.advance(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
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
