//! The body of a response: pieces of a blob, which the connection sends without their entering this process.

use std::{
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    vec,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::outlet::{MAX_PIECE_BYTES, Outlet, ResponseControl};
use crate::{Blob, BlobStore, run_blocking};

/// Distance of the bytes at which a piece is tested for being in memory: the kernel reads ahead in steps of this size.
const READ_AHEAD_BYTES: u64 = 128 * 1024;

/// A part of a body.
#[derive(Debug)]
pub enum Segment {
    /// Bytes of the blob.
    Content(Range<u64>),
    /// Bytes between them.
    Text(Bytes),
}

/// The blob of a response, and the connection that sends it.
#[derive(Debug)]
pub struct BodySource {
    /// The store that the blob belongs to.
    pub store: Arc<BlobStore>,
    /// The blob.
    pub blob: Arc<Blob>,
    /// The connection.
    pub outlet: Outlet,
    /// Limits of the response, held until its last piece is sent.
    pub control: Arc<dyn ResponseControl>,
}

/// A body of known length. What is in the page cache is sent at once; what is not is first read into it on the blocking
/// pool, because the thread that sends must not wait for a disk.
#[derive(Debug)]
pub struct RangeBody {
    source: BodySource,
    /// The segment being sent, which is not empty.
    segment: Option<Segment>,
    /// The segments after it.
    later: vec::IntoIter<Segment>,
    remaining: u64,
    warming: Option<JoinHandle<io::Result<()>>>,
    /// True until the first piece: its caller has checked the file.
    is_checked: bool,
}

impl RangeBody {
    /// Returns the body of these segments. The caller has just found the blob in place ([`Blob::is_in_place`]).
    pub fn new(source: BodySource, segments: Vec<Segment>) -> Self {
        let remaining = segments.iter().map(Segment::len).sum();
        let later = segments.into_iter();
        let mut body = Self { source, segment: None, later, remaining, warming: None, is_checked: true };
        body.next_segment();
        body
    }

    fn next_segment(&mut self) {
        self.segment = self.later.find(|segment| segment.len() > 0);
    }

    /// Returns the bytes that are left to send.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns the next piece of `range`, once it is in memory.
    fn poll_piece(&mut self, range: &Range<u64>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let max = u64::try_from(MAX_PIECE_BYTES).unwrap_or(u64::MAX);
        let piece = range.start..range.end.min(range.start.saturating_add(max));
        self.check(&piece)?;
        let BodySource { store, blob, outlet, control } = &self.source;
        if let Some(warming) = &mut self.warming {
            let warmed = ready!(Pin::new(warming).poll(cx)).map_err(io::Error::other)?;
            self.warming = None;
            // A file with bytes that the disk does not return is verified soon.
            warmed.inspect_err(|_| store.scrub_queue().push(blob.id()))?;
        } else if !blob.is_in_memory(&piece, READ_AHEAD_BYTES)? {
            store.metrics().cold_reads.inc();
            let (blob, disk) = (blob.clone(), store.disk().clone());
            self.warming = Some(tokio::spawn(async move {
                let _permit = disk.read().await;
                run_blocking(move || warm(&blob, &piece)).await
            }));
            return self.poll_piece(range, cx);
        }
        store.metrics().content_bytes.inc_by(piece.end - piece.start);
        Poll::Ready(Ok(outlet.stand_in(blob.file(), piece, control)))
    }

    /// Refuses a piece that is not stored any more, so that it is not promised to the connection; promised ones end with the
    /// connection.
    fn check(&mut self, piece: &Range<u64>) -> io::Result<()> {
        let is_checked = std::mem::take(&mut self.is_checked);
        let BodySource { store, blob, .. } = &self.source;
        if !is_checked && !blob.has_full_length()? {
            store.scrub_queue().push(blob.id());
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if blob.holds_bytes(piece) { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }

    /// Takes `length` bytes off the front.
    fn advance(&mut self, length: u64) {
        self.remaining = self.remaining.saturating_sub(length);
        let done = match &mut self.segment {
            Some(Segment::Content(range)) => {
                range.start = range.end.min(range.start.saturating_add(length));
                range.is_empty()
            }
            Some(Segment::Text(_)) | None => true,
        };
        if done {
            self.next_segment();
        }
    }
}

/// Reads a piece into the page cache.
fn warm(blob: &Blob, piece: &Range<u64>) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(READ_AHEAD_BYTES).unwrap_or(MAX_PIECE_BYTES)];
    let mut at = piece.start;
    while at < piece.end {
        let n = blob.file().read_at(&mut buffer, at)?;
        if n == 0 {
            // The connection notices the end by itself.
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
        if this.source.control.cancellation().is_cancelled() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let bytes = match &this.segment {
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
        self.segment.is_none()
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
