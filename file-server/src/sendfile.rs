//! Bodies that never enter this process: the kernel copies from the page cache to the socket (`sendfile(2)`).
//!
//! hyper writes bodies as bytes, so a body gives it bytes that stand for the real ones: slices of [`STAND_IN`], whose
//! content nobody reads, and notes in the connection's [`Outlet`] which piece of which file each stands for. The
//! connection's [`Stream`] recognises such a slice by its address and sends the piece instead. This rests on hyper handing
//! large buffers on untouched, which it does for a stream that writes vectored; were one ever copied, the count of what
//! was noted would not match what was written, and the connection ends instead of sending what nobody meant.

use std::{
    collections::VecDeque,
    fs::File,
    future::Future as _,
    io::{self, IoSlice},
    ops::Range,
    os::fd::AsFd as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use lifecycle::listen::Transport;
use rustix::net::SendFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use transfer::pace::{self, Bucket};

use crate::running;

/// The most bytes one slice stands for.
pub(crate) const MOST: usize = 1 << 20;

/// Zeros that are never touched, so they take no memory.
static STAND_IN: [u8; MOST] = [0; MOST];

/// A piece of a file on its way out.
#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    range: Range<u64>,
    /// Counts as running until the piece is sent; a cut ends the connection, even one whose peer takes nothing.
    running: Arc<running::Body>,
}

/// What the stand-ins on one connection stand for, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outlet(Arc<Mutex<VecDeque<Piece>>>);

impl Outlet {
    /// Notes a piece of at most [`MOST`] bytes and gives what stands for it.
    pub(crate) fn stand_in(&self, file: &Arc<File>, range: Range<u64>, running: &Arc<running::Body>) -> Bytes {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(MOST).min(MOST);
        self.pieces().push_back(Piece { file: file.clone(), range, running: running.clone() });
        Bytes::from_static(STAND_IN.get(..length).unwrap_or_default())
    }

    fn pieces(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes such connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sendfile {
    /// What all connections share.
    line: Option<Arc<Bucket>>,
}

impl Sendfile {
    /// Connections that send `rate` bytes a second together; as many as the network takes when absent.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { line: rate.map(|rate| Arc::new(Bucket::new(rate))) }
    }
}

impl Transport for Sendfile {
    type Stream = Stream;
    type Attachment = Outlet;

    fn wrap(&self, stream: TcpStream) -> (Stream, Outlet) {
        let outlet = Outlet::default();
        let (outlet_too, line) = (outlet.clone(), self.line.clone());
        (Stream { tcp: stream, outlet: outlet_too, cut: None, line, turn: None, granted: 0 }, outlet)
    }
}

/// A connection that sends pieces of files where it is given stand-ins.
pub(crate) struct Stream {
    tcp: TcpStream,
    outlet: Outlet,
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    line: Option<Arc<Bucket>>,
    /// The wait for the next share of the line, and its size.
    turn: Option<(Pin<Box<Sleep>>, usize)>,
    /// What is left of the present share.
    granted: usize,
}

/// Whether a slice stands for a piece of a file.
fn stands_in(slice: &[u8]) -> bool {
    !slice.is_empty() && STAND_IN.as_ptr_range().contains(&slice.as_ptr())
}

impl Stream {
    /// Sends from the piece in front, of which `slice` stands for the next bytes.
    fn poll_piece(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.granted == 0 {
            self.granted = ready!(self.poll_turn(length, cx));
        }
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.try_piece(length) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    self.cut = None;
                    self.granted = self.granted.saturating_sub(*sent.as_ref().unwrap_or(&0));
                    return Poll::Ready(sent);
                }
            }
        }
    }

    /// Takes a share of what is limited, and waits until it may flow.
    fn poll_turn(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if self.turn.is_none() {
            let own = self.outlet.pieces().front().and_then(|piece| piece.running.bucket().cloned());
            let buckets = [self.line.clone(), own];
            let Some(turn) = buckets.iter().flatten().map(|bucket| bucket.turn().min(length)).min() else {
                return Poll::Ready(length);
            };
            let (bytes, now) = (u64::try_from(turn).unwrap_or(u64::MAX), Instant::now());
            let due = buckets.iter().flatten().map(|bucket| bucket.take(bytes, now)).max().unwrap_or(now);
            let Some(wait) = pace::wait(due, now) else { return Poll::Ready(turn) };
            self.turn = Some((Box::pin(tokio::time::sleep(wait)), turn));
        }
        let Some((sleep, turn)) = &mut self.turn else { return Poll::Ready(length) };
        let turn = *turn;
        ready!(sleep.as_mut().poll(cx));
        self.turn = None;
        Poll::Ready(turn)
    }

    fn try_piece(&self, length: usize) -> io::Result<usize> {
        let mut pieces = self.outlet.pieces();
        let piece = pieces.front_mut().ok_or_else(|| io::Error::other("bytes that stand for nothing"))?;
        let left = piece.range.end.saturating_sub(piece.range.start);
        if piece.running.is_cut() {
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
            tracing::error!("a replica is shorter on disk than it was: ending the connection");
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.range.start = piece.range.start.saturating_add(u64::try_from(sent).unwrap_or(u64::MAX));
        if piece.range.is_empty() {
            pieces.pop_front();
        }
        Ok(sent)
    }

    /// Whether the piece in front was cut while the peer took nothing; if not, `cx` is woken when it is.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> bool {
        if self.cut.is_none() {
            let token = self.outlet.pieces().front().map(|piece| piece.running.token().clone());
            self.cut = token.map(|token| Box::pin(token.cancelled_owned()));
        }
        self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready())
    }

    /// Writes real bytes; `more` tells the kernel to hold them back for what follows at once.
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

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
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
        if !stands_in(first) {
            let more = slices.next().is_some_and(|next| stands_in(next));
            return this.poll_bytes(first, more, cx);
        }
        match this.poll_piece(first.len(), cx) {
            Poll::Pending if this.poll_cut(cx) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
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
    use std::io::Write as _;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A body being sent, and what cuts it.
    fn body() -> (Arc<running::Body>, impl Fn() -> usize) {
        let (all, token) = (Arc::new(running::Running::default()), wire::Digest::of(b"a token"));
        (Arc::new(all.enter(token)), move || all.cut(&token))
    }

    async fn pair() -> (Stream, Outlet, TcpStream) {
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
        let content: Vec<u8> = (0..3 * MOST).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (file, body) = (file(&content), body().0);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        near.write_all(b"head").await.unwrap();
        for start in [0, MOST, 2 * MOST] {
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
        let bytes = outlet.stand_in(&file(b"0123456789"), 0..10, &body().0);
        assert!(near.write_all(&bytes[..9]).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_shrank_ends_the_connection() {
        let (mut near, outlet, _far) = pair().await;
        let bytes = outlet.stand_in(&file(b"0123"), 0..10, &body().0);
        assert_eq!(near.write_all(&bytes).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_whose_peer_takes_nothing_even_within_the_last_piece() {
        let (mut near, outlet, _far) = pair().await;
        let (file, (running, cut)) = (file(&vec![1; MOST]), body());
        let writing = async move {
            // More than the socket's buffers take. With the last piece nothing else is left of the body.
            let pieces: Vec<Bytes> = (0..64).map(|_| outlet.stand_in(&file, 0..1 << 20, &running)).collect();
            drop(running);
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
        assert_eq!(cut(), 1);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(5), writing).await.unwrap();
        assert_eq!(ended, Some(io::ErrorKind::ConnectionAborted));
    }

    #[tokio::test]
    async fn a_body_runs_until_its_last_piece_is_sent_and_no_longer() {
        let (mut near, outlet, _far) = pair().await;
        let (running, cut) = body();
        let piece = outlet.stand_in(&file(b"0123"), 0..4, &running);
        let left = Arc::downgrade(&running);
        drop(running);
        assert!(left.upgrade().is_some());
        near.write_all(&piece).await.unwrap();
        assert!(left.upgrade().is_none());
        assert_eq!(cut(), 0);
    }
}
