//! A stream whose writes fail when the peer accepts no bytes for too long.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// Stream that may withhold bytes on behalf of this process, as a rate limit does.
pub trait PacedWrite {
    /// Returns the time until which the pending write waits for this process and not for the peer.
    fn withheld_until(&self) -> Option<Instant> {
        None
    }
}

impl PacedWrite for TcpStream {}

/// Stream with a bound on the time that a write may be pending. The time until which the stream withholds bytes by itself is
/// no fault of the peer: the bound counts from its end.
pub(super) struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    // One timer per connection, armed only while a write is pending: it costs nothing while bytes flow.
    timer: Pin<Box<Sleep>>,
    /// Time that the limit counts from, while a write is pending.
    counted_from: Option<Instant>,
}

impl<S: PacedWrite> WriteDeadline<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, timer: Box::pin(sleep(limit)), counted_from: None }
    }

    fn check_deadline<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.counted_from = None;
            return polled;
        }
        let from = self.stream.withheld_until().or(self.counted_from).unwrap_or_else(Instant::now);
        if self.counted_from != Some(from) {
            self.counted_from = Some(from);
            self.timer.as_mut().reset(from + self.limit);
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + PacedWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check_deadline(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check_deadline(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.check_deadline(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.check_deadline(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    impl PacedWrite for DuplexStream {}

    /// Stream that withholds everything until a time, and whose peer takes nothing after it.
    struct Withholding(Instant);

    impl PacedWrite for Withholding {
        fn withheld_until(&self) -> Option<Instant> {
            Some(self.0).filter(|until| *until > Instant::now())
        }
    }

    impl AsyncWrite for Withholding {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_server_withholds_bytes_is_not_held_against_the_peer() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut near = WriteDeadline::new(Withholding(start + 100 * second), 3 * second);
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 103));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let (mut near, begun) = (WriteDeadline::new(near, Duration::from_secs(3)), Instant::now());
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_keeps_reading_is_served() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = WriteDeadline::new(near, Duration::from_secs(3));
        let reader = async {
            let mut all = Vec::new();
            let mut some = [0; 8];
            while all.len() < 64 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let n = far.read(&mut some).await.unwrap();
                all.extend_from_slice(&some[..n]);
            }
            all
        };
        let (written, read) = tokio::join!(near.write_all(&[7; 64]), reader);
        written.unwrap();
        assert_eq!(read, [7; 64]);
    }
}
