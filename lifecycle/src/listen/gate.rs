//! Reads every request's head before hyper does, and lets only those through that are taken.
//!
//! hyper answers what it cannot parse with an empty body, reads a head as far as its buffer happens to reach, and has one
//! timer for an idle connection and for a head that never ends. So the head is gathered here, under a bound and a deadline
//! of its own, judged ([`super::head`]), and only then handed on; the body's framing is followed to know where the next head
//! begins. A head that is refused is replaced by a request of our own, which the connection's service recognises by its
//! number and answers with the problem: answers stay in order, and what writes them is hyper as always.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
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

use super::{
    chunked::Chunks,
    head::{self, Framing, MAX_HEAD},
};

/// Bytes asked of the connection at a time while a head or a chunked body is read.
const STEP: usize = 4096;

/// After our side is closed: how long, and how many bytes, a peer that is still sending may go on. Closing at once would
/// reset the connection, and with it what the peer has not read yet of the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER: usize = 4 << 20;

/// What a connection's gate tells its service: which of the requests was refused, by number, and where it reads.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    answered: AtomicU64,
    in_body: AtomicBool,
    refused: Mutex<Option<(u64, Problem)>>,
}

impl Refusals {
    /// The problem of the next request, if it was refused. To be asked once for each.
    pub(super) fn next(&self) -> Option<Problem> {
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take_if(|(refused, _)| *refused == number).map(|(_, problem)| problem)
    }

    /// Whether a part of the present request's body has not come yet: answered now, it would be the connection's last.
    pub(super) fn in_body(&self) -> bool {
        self.in_body.load(Ordering::Relaxed)
    }

    fn note(&self, number: u64, problem: Problem) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, problem));
    }
}

/// How long a peer may take to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the whole of a head, from its first byte; for the first one, from the opening of the connection.
    pub(super) head: Duration,
    /// Without a byte of a body that is waited for.
    pub(super) body: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between requests, or in a head.
    Head,
    /// In a body, with so many bytes to come.
    Body(u64),
    Chunked(Chunks),
    /// Behind a head that was refused: nothing more is read.
    Refused,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Head,
    Body,
}

/// A connection of which only judged requests are read.
pub(super) struct Gate<S> {
    /// Limited to the body while one is read.
    stream: Take<S>,
    patience: Patience,
    refusals: Arc<Refusals>,
    incoming: BytesMut,
    /// How many bytes in front of `incoming` may be read.
    cleared: usize,
    /// How far `incoming` was searched for the end of a head.
    searched: usize,
    place: Place,
    /// Heads that were let through.
    heads: u64,
    timer: Pin<Box<Sleep>>,
    waiting: Option<Wait>,
    /// Bytes that were thrown away after our side was closed.
    lingered: Option<usize>,
}

impl<S: AsyncRead + Unpin> Gate<S> {
    pub(super) fn new(stream: S, patience: Patience, refusals: Arc<Refusals>) -> Self {
        Self {
            stream: stream.take(0),
            patience,
            refusals,
            incoming: BytesMut::new(),
            cleared: 0,
            searched: 0,
            place: Place::Head,
            heads: 0,
            timer: Box::pin(sleep(patience.head)),
            waiting: Some(Wait::Head),
            lingered: None,
        }
    }

    /// Judges what came in, as far as it can be judged.
    fn clear(&mut self) -> io::Result<()> {
        match self.place {
            Place::Head => self.clear_head(),
            Place::Body(left) => {
                let came = self.incoming.len();
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(came);
                self.cleared = taken;
                self.place = after(left, taken);
            }
            Place::Chunked(mut chunks) => {
                self.cleared = chunks.follow(&self.incoming).map_err(|_| {
                    self.place = Place::Closed;
                    io::Error::new(io::ErrorKind::InvalidData, "the chunked body is malformed")
                })?;
                self.place = if chunks == Chunks::End { Place::Head } else { Place::Chunked(chunks) };
            }
            Place::Refused | Place::Closed => {}
        }
        Ok(())
    }

    fn clear_head(&mut self) {
        // A server should ignore empty lines before a request (RFC 9112 §2.2).
        while self.searched == 0 && self.incoming.starts_with(b"\r\n") {
            self.incoming.advance(2);
        }
        if let Err(problem) = head::begins_well(self.incoming.strip_prefix(b"\r").unwrap_or(&self.incoming)) {
            return self.refuse(problem);
        }
        let Some(end) = self.end_of_head() else {
            if self.incoming.len() > MAX_HEAD {
                self.refuse(head::too_large(&self.incoming));
            }
            return;
        };
        let head = self.incoming.get(..end).unwrap_or_default();
        let judged = if end > MAX_HEAD { Err(head::too_large(head)) } else { head::judge(head) };
        match judged {
            Err(problem) => self.refuse(problem),
            Ok(framing) => {
                self.cleared = end;
                (self.searched, self.waiting) = (0, None);
                self.heads = self.heads.saturating_add(1);
                self.place = match framing {
                    Framing::Length(0) => Place::Head,
                    Framing::Length(length) => Place::Body(length),
                    Framing::Chunked => Place::Chunked(Chunks::START),
                };
            }
        }
    }

    /// Any line end counts here: the judgement says which are taken.
    fn end_of_head(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let found = self.incoming.get(from..)?.windows(3).enumerate().find_map(|(at, window)| match window {
            [b'\n', b'\n', _] => Some(at + 2),
            b"\n\r\n" => Some(at + 3),
            _ => None,
        });
        self.searched = self.incoming.len();
        found.map(|at| from + at).or_else(|| self.incoming.ends_with(b"\n\n").then_some(self.incoming.len()))
    }

    /// Puts a request in the place of the one that is not taken.
    fn refuse(&mut self, problem: Problem) {
        tracing::debug!(status = problem.status, reason = %problem.detail, "a request was refused before it was read");
        let stand_in: &[u8] = if self.incoming.starts_with(b"HEAD ") {
            b"HEAD / HTTP/1.1\r\nhost: refused\r\n\r\n"
        } else {
            b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n"
        };
        self.refusals.note(self.heads, problem);
        self.incoming = BytesMut::from(stand_in);
        self.cleared = stand_in.len();
        (self.place, self.waiting) = (Place::Refused, None);
    }

    /// Hands out what was judged.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.cleared.min(buf.remaining());
        buf.put_slice(self.incoming.get(..n).unwrap_or_default());
        self.incoming.advance(n);
        self.cleared -= n;
        if self.incoming.is_empty() {
            // Idle connections keep no buffer.
            self.incoming = BytesMut::new();
        }
    }

    /// Bytes of a body go from the connection to the reader without a stop.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, left: u64) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        self.stream.set_limit(left);
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_pending() {
            return self.poll_patience(cx);
        }
        let came = buf.filled().len().saturating_sub(before);
        self.waiting = None;
        if came > 0 {
            self.place = after(left, came);
        }
        polled
    }

    /// What is to be done when nothing came: mostly to wait.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (wait, limit) = match self.place {
            // Between requests it is hyper that knows whether one is being answered, and hyper's timer that runs.
            Place::Head if self.heads > 0 && self.incoming.is_empty() => return Poll::Pending,
            Place::Head => (Wait::Head, self.patience.head),
            Place::Body(_) | Place::Chunked(_) => (Wait::Body, self.patience.body),
            Place::Refused | Place::Closed => return Poll::Pending,
        };
        if self.waiting != Some(wait) {
            self.waiting = Some(wait);
            self.timer.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.timer.as_mut().poll(cx));
        match wait {
            Wait::Body => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            // Nothing was asked: an answer to nothing would only confuse.
            Wait::Head if self.incoming.is_empty() => Poll::Ready(Ok(())),
            Wait::Head => {
                self.refuse(
                    Problem::new(408, "timeout", "The head of the request did not come in time")
                        .detail("send it at once; the connection is closed"),
                );
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Whether the peer may be in the middle of sending something that nobody will read.
    fn may_be_interrupted(&self) -> bool {
        self.place != Place::Head || !self.incoming.is_empty()
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>, mut lingered: usize) -> Poll<io::Result<()>> {
        let mut bytes = [0; STEP];
        while lingered < MAX_LINGER {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(self.stream.get_mut()).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => lingered += buf.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => {
                    self.lingered = Some(lingered);
                    return self.timer.as_mut().poll(cx).map(Ok);
                }
            }
        }
        self.lingered = Some(MAX_LINGER);
        Poll::Ready(Ok(()))
    }
}

/// Where a body with `left` bytes to come stands after `taken` more.
fn after(left: u64, taken: usize) -> Place {
    match left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX)) {
        0 => Place::Head,
        left => Place::Body(left),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = this.poll_judged(cx, buf);
        this.refusals.in_body.store(this.is_in_body(), Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Whether hyper could not read the present body to its end at once. It tries once, when an answer came before that.
    fn is_in_body(&self) -> bool {
        let came = self.incoming.len().saturating_sub(self.cleared);
        match self.place {
            Place::Body(left) => usize::try_from(left).map_or(true, |left| left > came),
            Place::Chunked(_) => true,
            Place::Head | Place::Refused | Place::Closed => false,
        }
    }

    fn poll_judged(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.cleared == 0 && !self.incoming.is_empty() {
                self.clear()?;
            }
            if self.cleared > 0 {
                self.hand_out(buf);
                return Poll::Ready(Ok(()));
            }
            match self.place {
                Place::Refused | Place::Closed => return Poll::Pending,
                Place::Body(left) => return self.poll_body(cx, buf, left),
                Place::Head | Place::Chunked(_) => {}
            }
            self.incoming.reserve(STEP);
            match poll_read_buf(Pin::new(self.stream.get_mut()), cx, &mut self.incoming) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) if self.place == Place::Head => {}
                Poll::Ready(Ok(_)) => self.waiting = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_patience(cx))?;
                    if self.cleared == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
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
        let this = self.get_mut();
        if this.lingered.is_none() {
            ready!(Pin::new(this.stream.get_mut()).poll_shutdown(cx))?;
            if !this.may_be_interrupted() {
                return Poll::Ready(Ok(()));
            }
            this.timer.as_mut().reset(Instant::now() + LINGER);
            this.lingered = Some(0);
        }
        this.poll_linger(cx, this.lingered.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(15), body: Duration::from_secs(30) };

    fn gate() -> (Gate<DuplexStream>, DuplexStream, Arc<Refusals>) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let refusals = Arc::<Refusals>::default();
        (Gate::new(near, PATIENCE, refusals.clone()), far, refusals)
    }

    /// What is let through of `sent`, and the refusal after so many requests.
    async fn through(sent: &[u8], requests: u64) -> (String, Option<u16>) {
        let (mut gate, mut far, refusals) = gate();
        far.write_all(sent).await.unwrap();
        let mut passed = Vec::new();
        let reading = async { while gate.read_buf(&mut passed).await.is_ok_and(|n| n > 0) {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
        for _ in 0..requests {
            assert_eq!(refusals.next(), None);
        }
        (String::from_utf8(passed).unwrap(), refusals.next().map(|problem| problem.status))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_their_bodies_pass_unchanged_one_after_the_other() {
        let sent = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n\
            POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody\
            POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n\
            GET /d HTTP/1.0\r\n\r\n";
        assert_eq!(through(sent.as_bytes(), 4).await, (sent.to_owned(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_a_body_is_judged_as_a_head_and_nothing_passes_behind_a_refusal() {
        let good = "POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
        let sent = format!("{good}GET /../ HTTP/1.1\r\nhost: x\r\n\r\nGET /c HTTP/1.1\r\nhost: x\r\n\r\n");
        let (passed, refused) = through(sent.as_bytes(), 1).await;
        assert_eq!(refused, Some(400));
        assert_eq!(passed.strip_prefix(good), Some("GET / HTTP/1.1\r\nhost: refused\r\n\r\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_without_end_is_refused_as_soon_as_it_is_too_large() {
        let fields = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}", "a".repeat(100_000));
        assert_eq!(through(fields.as_bytes(), 0).await.1, Some(431));
        let target = format!("GET /{}", "a".repeat(100_000));
        assert_eq!(through(target.as_bytes(), 0).await.1, Some(414));
        let complete = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(through(complete.as_bytes(), 0).await.1, Some(431));
        let just = format!("GET / HTTP/1.1\r\nhost: x\r\nbig: {}\r\n\r\n", "a".repeat(MAX_HEAD - 40));
        assert_eq!(through(just.as_bytes(), 1).await, (just.clone(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_refused_after_its_time_and_not_later() {
        let (mut gate, mut far, refusals) = gate();
        let started = Instant::now();
        let dripping = async {
            for byte in b"GET / HTTP/1.1\r\nhost: ".iter().chain(std::iter::repeat(&b'x')) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if far.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        };
        let mut bytes = [0; 64];
        let n = tokio::select! {
            n = gate.read(&mut bytes) => n.unwrap(),
            () = dripping => 0,
        };
        assert!(n > 0 && started.elapsed() <= Duration::from_secs(16), "{:?}", started.elapsed());
        assert_eq!(refusals.next().map(|problem| problem.status), Some(408));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_asks_ends_without_an_answer() {
        let (mut gate, _far, refusals) = gate();
        assert_eq!(gate.read(&mut [0; 64]).await.unwrap(), 0);
        assert_eq!(refusals.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_fails_and_one_that_drips_goes_on() {
        let (mut gate, mut far, _refusals) = gate();
        far.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nb").await.unwrap();
        let mut bytes = [0; 256];
        assert!(gate.read(&mut bytes).await.unwrap() > 0);
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(29)).await;
            far.write_all(b"o").await.unwrap();
            assert!(gate.read(&mut bytes).await.unwrap() > 0);
        }
        let error = gate.read(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_malformed_chunk_fails_the_body() {
        let (mut gate, mut far, _refusals) = gate();
        far.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        assert!(gate.read(&mut [0; 256]).await.unwrap() > 0);
        far.write_all(b"3\nabc\n").await.unwrap();
        assert_eq!(gate.read(&mut [0; 256]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
