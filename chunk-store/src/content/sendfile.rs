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
    time::Instant,
};

use http_front::acceptor::Transport;
use rustix::net::SendFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use transfer::rate_limiter::{self, Bucket};

use super::outlet::{Outlet, is_stand_in};

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
            waiting: None,
            granted: 0,
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
    waiting: Option<Waiting>,
    /// Bytes left of the share that may be sent now.
    granted: usize,
}

/// The wait until the next share may be sent.
struct Waiting {
    until: Pin<Box<Sleep>>,
    share: usize,
}

impl std::fmt::Debug for SendfileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendfileStream").field("tcp", &self.tcp).field("outlet", &self.outlet).finish_non_exhaustive()
    }
}

impl SendfileStream {
    /// Sends from the piece in front, of which `slice` stands for the next bytes.
    fn poll_piece(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.granted == 0 {
            self.granted = ready!(self.poll_share(length, cx));
        }
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.try_piece(length) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    self.cancelled = None;
                    self.granted = self.granted.saturating_sub(*sent.as_ref().unwrap_or(&0));
                    return Poll::Ready(sent);
                }
            }
        }
    }

    /// Takes a share of the rate limits, and waits until it may be sent.
    fn poll_share(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if self.waiting.is_none() {
            let own = self.outlet.pieces().front().and_then(|piece| piece.control.rate_limit().cloned());
            let limits = [self.rate_limit.clone(), own];
            let Some(share) = limits.iter().flatten().map(|limit| limit.batch_size().min(length)).min() else {
                return Poll::Ready(length);
            };
            let (bytes, now) = (u64::try_from(share).unwrap_or(u64::MAX), Instant::now());
            let due = limits.iter().flatten().map(|limit| limit.reserve(bytes, now)).max().unwrap_or(now);
            let Some(wait) = rate_limiter::worthwhile_wait(due, now) else { return Poll::Ready(share) };
            self.waiting = Some(Waiting { until: Box::pin(tokio::time::sleep(wait)), share });
        }
        let Some(Waiting { until, share }) = &mut self.waiting else { return Poll::Ready(length) };
        let share = *share;
        ready!(until.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(share)
    }

    fn try_piece(&self, length: usize) -> io::Result<usize> {
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
        let length = length.min(self.granted);
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

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use bytes::Bytes;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::content::outlet::{MAX_PIECE_BYTES, ResponseControl, STAND_IN};

    #[derive(Debug, Default)]
    struct Control(CancellationToken);

    impl ResponseControl for Control {
        fn cancellation(&self) -> &CancellationToken {
            &self.0
        }

        fn rate_limit(&self) -> Option<&Arc<Bucket>> {
            None
        }
    }

    fn control() -> Arc<dyn ResponseControl> {
        Arc::new(Control::default())
    }

    async fn pair() -> (SendfileStream, Outlet, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, outlet) = Sendfile::default().wrap(listener.accept().await.unwrap().0);
        (stream, outlet, far)
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn pieces_and_bytes_arrive_in_order() {
        let (mut near, outlet, mut far) = pair().await;
        let content: Vec<u8> = (0..3 * MAX_PIECE_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (file, body) = (file(&content), control());
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        near.write_all(b"head").await.unwrap();
        for start in [0, MAX_PIECE_BYTES, 2 * MAX_PIECE_BYTES] {
            let start = u64::try_from(start).unwrap();
            near.write_all(&outlet.stand_in(&file, start..start + (1 << 20), &body)).await.unwrap();
        }
        near.write_all(&outlet.stand_in(&file, 7..8, &body)).await.unwrap();
        near.write_all(b"tail").await.unwrap();
        near.shutdown().await.unwrap();
        let expected = [b"head".as_slice(), &content, &content[7..8], b"tail"].concat();
        assert!(reader.await.unwrap() == expected);
        assert!(outlet.pieces().is_empty());
    }

    #[tokio::test]
    async fn what_stands_for_nothing_or_for_another_piece_ends_the_connection() {
        let (mut near, outlet, _far) = pair().await;
        assert!(near.write_all(&STAND_IN[..10]).await.is_err());
        let bytes = outlet.stand_in(&file(b"0123456789"), 0..10, &control());
        assert!(near.write_all(&bytes[..9]).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_shrank_ends_the_connection() {
        let (mut near, outlet, _far) = pair().await;
        let bytes = outlet.stand_in(&file(b"0123"), 0..10, &control());
        assert_eq!(near.write_all(&bytes).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_whose_peer_takes_nothing_even_within_the_last_piece() {
        let (mut near, outlet, _far) = pair().await;
        let token = CancellationToken::new();
        let (file, control) =
            (file(&vec![1; MAX_PIECE_BYTES]), Arc::new(Control(token.clone())) as Arc<dyn ResponseControl>);
        let writing = async move {
            // More than the socket's buffers take. With the last piece nothing else is left of the body.
            let pieces: Vec<Bytes> = (0..64).map(|_| outlet.stand_in(&file, 0..1 << 20, &control)).collect();
            drop(control);
            for piece in pieces {
                if let Err(error) = near.write_all(&piece).await {
                    return Some(error.kind());
                }
            }
            None
        };
        let mut writing = Box::pin(writing);
        // Runs until the socket's buffers are full and nothing goes on.
        assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut writing).await.is_err());
        token.cancel();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(5), writing).await.unwrap();
        assert_eq!(ended, Some(io::ErrorKind::ConnectionAborted));
    }

    #[tokio::test]
    async fn a_body_runs_until_its_last_piece_is_sent_and_no_longer() {
        let (mut near, outlet, _far) = pair().await;
        let control = control();
        let piece = outlet.stand_in(&file(b"0123"), 0..4, &control);
        let left = Arc::downgrade(&control);
        drop(control);
        assert!(left.upgrade().is_some());
        near.write_all(&piece).await.unwrap();
        assert!(left.upgrade().is_none());
    }
}
