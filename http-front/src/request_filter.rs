//! Reads every request head before hyper does and passes on only those that are accepted.
//!
//! hyper answers what it cannot parse with an empty body, reads a head as far as its buffer happens to reach, and has one
//! timer for both an idle connection and a head that never ends. So this filter collects each head under a size bound and a
//! deadline of its own, checks it ([`head`]), and only then hands it to hyper. It follows the framing of the body to find the
//! start of the next head.
//!
//! A rejected head is replaced by a stand-in request. The connection's service recognises that request by its number and
//! answers it with the problem, so answers stay in order and hyper alone writes them.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take},
    time::{Instant, Sleep, sleep},
};
use tokio_util::io::poll_read_buf;
use wire::Problem;

use crate::acceptor::PacedWrite;

mod check;
mod chunked;
mod head;
mod lingering_close;
mod rejections;
mod target;
#[cfg(test)]
mod tests;

use chunked::ChunkedBody;
pub(crate) use rejections::Rejections;

/// Bytes requested from the connection at a time while a head or a chunked body is read.
const READ_SIZE: usize = 4096;

/// Deadlines for what a peer sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// Time for a whole head, from its first byte; for the first head, from the opening of the connection.
    pub(crate) head: Duration,
    /// Time that may pass without a byte of a body that is waited for.
    pub(crate) body: Duration,
}

/// Position of the next unchecked byte in the request stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Position between requests, or in a head.
    Head,
    /// Position in a body with this many bytes left.
    Body(u64),
    /// Position in a chunked body.
    Chunked(ChunkedBody),
    /// Position after a rejected head: nothing more is read.
    Rejected,
    /// Position after a malformed body: nothing more is read.
    Closed,
}

/// Wait that the timer is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Head,
    Body,
}

/// Connection from which only checked requests are read.
///
/// Invariant: the first `checked` bytes of `buffer`, and no others, may be handed to the reader; bytes of a body with a known
/// length may bypass the buffer.
pub(crate) struct RequestFilter<S> {
    /// Limited to the body's rest while a body is read.
    stream: Take<S>,
    timeouts: Timeouts,
    rejections: Arc<Rejections>,
    buffer: BytesMut,
    /// Number of bytes at the start of `buffer` that passed the check.
    checked: usize,
    /// Number of bytes at the start of `buffer` that were searched for the end of a head.
    searched: usize,
    position: Position,
    /// Number of heads that passed the check.
    accepted_heads: u64,
    timer: Pin<Box<Sleep>>,
    timer_set_for: Option<Wait>,
    /// Bytes discarded since our side was closed; `None` before that.
    discarded: Option<usize>,
}

impl<S: AsyncRead + Unpin> RequestFilter<S> {
    pub(crate) fn new(stream: S, timeouts: Timeouts, rejections: Arc<Rejections>) -> Self {
        Self {
            stream: stream.take(0),
            timeouts,
            rejections,
            buffer: BytesMut::new(),
            checked: 0,
            searched: 0,
            position: Position::Head,
            accepted_heads: 0,
            timer: Box::pin(sleep(timeouts.head)),
            timer_set_for: Some(Wait::Head),
            discarded: None,
        }
    }

    fn poll_checked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.checked == 0 && !self.buffer.is_empty() {
                self.check_buffer()?;
            }
            if self.checked > 0 {
                self.hand_out(buf);
                return Poll::Ready(Ok(()));
            }
            match self.position {
                Position::Rejected | Position::Closed => return Poll::Pending,
                Position::Body(left) => return self.poll_body(cx, buf, left),
                Position::Head | Position::Chunked(_) => {}
            }
            self.buffer.reserve(READ_SIZE);
            match poll_read_buf(Pin::new(self.stream.get_mut()), cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) if self.position == Position::Head => {}
                Poll::Ready(Ok(_)) => self.timer_set_for = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_timeout(cx))?;
                    if self.checked == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Copies checked bytes to the reader.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.checked.min(buf.remaining());
        buf.put_slice(self.buffer.get(..n).unwrap_or_default());
        self.buffer.advance(n);
        self.checked -= n;
        if self.buffer.is_empty() {
            // Idle connections keep no buffer.
            self.buffer = BytesMut::new();
        }
    }

    /// Reads the bytes of a body from the connection into the reader's buffer, past our own.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, left: u64) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        self.stream.set_limit(left);
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_pending() {
            return self.poll_timeout(cx);
        }
        let read = buf.filled().len().saturating_sub(before);
        self.timer_set_for = None;
        if read > 0 {
            self.position = Position::after_body_bytes(left, read);
        }
        polled
    }

    /// Runs the timer of the present wait, after a read that returned nothing.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (wait, limit) = match self.position {
            // Between requests only hyper can tell whether one is still being answered, so hyper's timer runs.
            Position::Head if self.accepted_heads > 0 && self.buffer.is_empty() => return Poll::Pending,
            Position::Head => (Wait::Head, self.timeouts.head),
            Position::Body(_) | Position::Chunked(_) => (Wait::Body, self.timeouts.body),
            Position::Rejected | Position::Closed => return Poll::Pending,
        };
        if self.timer_set_for != Some(wait) {
            self.timer_set_for = Some(wait);
            self.timer.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.timer.as_mut().poll(cx));
        match wait {
            Wait::Body => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            // The peer sent no request, so an answer would only confuse it.
            Wait::Head if self.buffer.is_empty() => Poll::Ready(Ok(())),
            Wait::Head => {
                self.reject(
                    Problem::new(408, "timeout", "Request timeout")
                        .detail("the request head did not arrive in time: send it at once, on a new connection"),
                );
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Returns true if hyper cannot read the present body to its end at once. hyper tries that once, when it answers before it
    /// has read the body.
    fn is_in_body(&self) -> bool {
        let unchecked = self.buffer.len().saturating_sub(self.checked);
        match self.position {
            Position::Body(left) => usize::try_from(left).map_or(true, |left| left > unchecked),
            Position::Chunked(_) => true,
            Position::Head | Position::Rejected | Position::Closed => false,
        }
    }
}

impl Position {
    /// Returns the position in a body with `left` bytes to come after `read` more were read.
    fn after_body_bytes(left: u64, read: usize) -> Self {
        match left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX)) {
            0 => Self::Head,
            left => Self::Body(left),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestFilter<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.poll_checked(cx, buf);
        this.rejections.in_body.store(this.is_in_body(), Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestFilter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_lingering_close(cx)
    }
}

impl<S: AsyncRead + PacedWrite> PacedWrite for RequestFilter<S> {
    fn withheld_until(&self) -> Option<Instant> {
        self.stream.get_ref().withheld_until()
    }
}
