//! Bodies that never enter this process: the kernel copies from the page cache to the socket (`sendfile(2)`).
//!
//! hyper writes bodies as bytes, so a body gives it bytes that stand for the real ones: slices of one static array, whose
//! content is never read, and notes in the connection's [`Outlet`] which piece of which file each stands for. The
//! connection's [`SendfileStream`] recognises such a slice by its address and sends the piece instead. This rests on hyper handing
//! large buffers on untouched, which it does for a stream that writes vectored; were one ever copied, the count of what
//! was noted would not match what was written, and the connection ends instead of sending other bytes.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    os::fd::AsFd as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_front::acceptor::{PacedWrite, Transport};
use rustix::net::SendFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use transfer::rate_limiter::Bucket;

use super::{
    outlet::{Outlet, is_stand_in},
    rate_share::RateShare,
};

/// The transport whose connections send pieces of files.
#[derive(Debug, Clone, Default)]
pub struct Sendfile {
    /// Rate limit of all connections together.
    rate_limit: Option<Arc<Bucket>>,
}

impl Sendfile {
    /// Returns a transport whose connections send `rate` bytes a second together; as many as the network takes when absent.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate_limit: rate.map(|rate| Arc::new(Bucket::new(rate))) }
    }
}

impl Transport for Sendfile {
    type Stream = SendfileStream;
    type Extension = Outlet;

    fn wrap(&self, stream: TcpStream) -> (SendfileStream, Outlet) {
        let outlet = Outlet::default();
        let stream = SendfileStream {
            tcp: stream,
            outlet: outlet.clone(),
            cancelled: None,
            rate_limit: self.rate_limit.clone(),
            share: None,
        };
        (stream, outlet)
    }
}

/// A connection that sends pieces of files where it is given stand-ins.
pub struct SendfileStream {
    tcp: TcpStream,
    outlet: Outlet,
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    rate_limit: Option<Arc<Bucket>>,
    /// Share of the rate limits that is written next, or waited for.
    share: Option<RateShare>,
}

impl std::fmt::Debug for SendfileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendfileStream").field("tcp", &self.tcp).field("outlet", &self.outlet).finish_non_exhaustive()
    }
}

impl SendfileStream {
    /// Sends from the piece in front, of which the slice of this `length` stands for the next bytes.
    fn poll_piece(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            // A share is reserved once the peer takes bytes, so that a peer that takes none keeps none from the others.
            ready!(self.tcp.poll_write_ready(cx))?;
            let allowed = ready!(self.poll_share(length, cx));
            match self.try_piece(length, allowed) {
                // What was known of the socket was out of date: its buffer is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.share = None,
                sent => {
                    self.cancelled = None;
                    let bytes = *sent.as_ref().unwrap_or(&0);
                    self.share.take_if(|share| !share.spend(bytes));
                    return Poll::Ready(sent);
                }
            }
        }
    }

    /// Reserves a share of the rate limits, and waits until it may be sent. Returns the bytes that are left of it.
    fn poll_share(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if self.share.is_none() {
            let own = self.outlet.pieces().front().and_then(|piece| piece.control.rate_limit().cloned());
            self.share = RateShare::reserve([self.rate_limit.clone(), own], length);
        }
        self.share.as_mut().map_or(Poll::Ready(length), |share| share.poll_due(cx))
    }

    fn try_piece(&self, length: usize, allowed: usize) -> io::Result<usize> {
        let mut pieces = self.outlet.pieces();
        let piece = pieces.front_mut().ok_or_else(|| io::Error::other("bytes that stand for nothing"))?;
        let left = piece.range.end.saturating_sub(piece.range.start);
        if piece.control.cancellation().is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if u64::try_from(length).unwrap_or(u64::MAX) != left {
            return Err(io::Error::other("bytes that stand for another piece"));
        }
        let mut offset = piece.range.start;
        let length = length.min(allowed);
        let sent = self.tcp.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(self.tcp.as_fd(), &piece.file, Some(&mut offset), length)?)
        })?;
        if sent == 0 {
            tracing::error!("A stored file is shorter on disk than it was: ending the connection");
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.range.start = piece.range.start.saturating_add(u64::try_from(sent).unwrap_or(u64::MAX));
        if piece.range.is_empty() {
            pieces.pop_front();
        }
        Ok(sent)
    }

    /// Returns true if the piece in front was cancelled while the peer accepted nothing; if not, `cx` is woken when it is.
    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> bool {
        if self.cancelled.is_none() {
            let token = self.outlet.pieces().front().map(|piece| piece.control.cancellation().clone());
            self.cancelled = token.map(|token| Box::pin(token.cancelled_owned()));
        }
        self.cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready())
    }

    /// Writes real bytes; `more` has the kernel hold them back for what follows at once.
    fn poll_bytes(&mut self, bytes: &[u8], more: bool, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !more {
            return Pin::new(&mut self.tcp).poll_write(cx, bytes);
        }
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let sent = self.tcp.try_io(Interest::WRITABLE, || Ok(rustix::net::send(self.tcp.as_fd(), bytes, flags)?));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for SendfileStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for SendfileStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut slices = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = slices.next() else { return Poll::Ready(Ok(0)) };
        if !is_stand_in(first) {
            let more = slices.next().is_some_and(|next| is_stand_in(next));
            return this.poll_bytes(first, more, cx);
        }
        match this.poll_piece(first.len(), cx) {
            Poll::Pending if this.poll_cancelled(cx) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            polled => polled,
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl PacedWrite for SendfileStream {
    fn withheld_until(&self) -> Option<Instant> {
        self.share.as_ref().and_then(RateShare::due)
    }
}

#[cfg(test)]
mod tests;
