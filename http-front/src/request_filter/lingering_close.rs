//! Closing a connection whose peer may still be sending.
//!
//! Closing the socket at once would reset the connection, and with it the part of the answer that the peer has not read yet
//! (RFC 9112 §9.6). So our side is closed first and what the peer goes on sending is discarded, for a bounded time and amount.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{Position, READ_SIZE, RequestFilter};

/// Time that a peer may go on sending after our side is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are discarded at most after our side is closed.
const MAX_DISCARDED: usize = 4 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> RequestFilter<S> {
    pub(super) fn poll_lingering_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discarded.is_none() {
            ready!(Pin::new(self.stream.get_mut()).poll_shutdown(cx))?;
            if !self.may_be_interrupted() {
                return Poll::Ready(Ok(()));
            }
            self.timer.as_mut().reset(Instant::now() + LINGER_TIMEOUT);
            self.discarded = Some(0);
        }
        self.poll_discard(cx, self.discarded.unwrap_or(0))
    }

    /// Returns true if the peer may be in the middle of sending something that will not be read.
    fn may_be_interrupted(&self) -> bool {
        self.position != Position::Head || !self.buffer.is_empty()
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, mut discarded: usize) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_SIZE];
        while discarded < MAX_DISCARDED {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(self.stream.get_mut()).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => discarded += buf.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => {
                    self.discarded = Some(discarded);
                    return self.timer.as_mut().poll(cx).map(Ok);
                }
            }
        }
        self.discarded = Some(MAX_DISCARDED);
        Poll::Ready(Ok(()))
    }
}
