//! A connection that corrects the head of the first response.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connector::Connection;

/// The beginning of a status line.
const PROTOCOL: &[u8] = b"HTTP/";
/// Bytes of a head that are read at once.
const READ_LEN: usize = 4096;

/// A connection whose first response begins with `HTTP/` in capital letters, however the server writes it, and has a space for every
/// carriage return within a line of its head (RFC 9112 §2.2).
pub(super) struct LenientStream {
    stream: Box<dyn Connection>,
    head: Head,
    /// Bytes that were read and not passed on.
    pending: BytesMut,
    has_ended: bool,
}

impl LenientStream {
    pub(super) fn new(stream: Box<dyn Connection>) -> Self {
        Self { stream, head: Head::default(), pending: BytesMut::new(), has_ended: false }
    }
}

/// The position within a head.
#[derive(Debug, Default)]
struct Head {
    /// Bytes read so far, up to the length of [`PROTOCOL`].
    read: usize,
    /// Bytes of the line, without its end.
    line_len: usize,
    /// Set if the last byte was a carriage return, of which only the next byte tells what it is.
    holds_return: bool,
    is_over: bool,
}

impl Head {
    /// Corrects the next bytes of a response and appends them to `out`.
    fn correct(&mut self, bytes: &[u8], out: &mut BytesMut) {
        for (n, byte) in bytes.iter().enumerate() {
            if self.is_over {
                return out.extend_from_slice(bytes.get(n..).unwrap_or_default());
            }
            self.push(*byte, out);
        }
    }

    fn push(&mut self, byte: u8, out: &mut BytesMut) {
        if std::mem::take(&mut self.holds_return) {
            if byte != b'\n' {
                self.line_len += 1;
            }
            out.extend_from_slice(if byte == b'\n' { b"\r" } else { b" " });
        }
        match byte {
            b'\r' => self.holds_return = true,
            b'\n' => {
                // An empty line ends the head.
                self.is_over = self.line_len == 0 && self.read >= PROTOCOL.len();
                self.line_len = 0;
                out.extend_from_slice(b"\n");
            }
            byte => {
                self.line_len += 1;
                let capital = PROTOCOL.get(self.read).copied();
                self.read += 1;
                out.extend_from_slice(&[capital.filter(|it| *it == byte.to_ascii_uppercase()).unwrap_or(byte)]);
            }
        }
    }

    /// Passes on what is held back when nothing follows.
    fn end(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.holds_return) {
            out.extend_from_slice(b"\r");
        }
    }
}

impl AsyncRead for LenientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, head, pending, has_ended } = &mut *self;
        while pending.is_empty() && !*has_ended {
            if head.is_over {
                return Pin::new(stream).poll_read(cx, buffer);
            }
            let mut space = [0; READ_LEN];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            *has_ended = read.filled().is_empty();
            head.correct(read.filled(), pending);
            if *has_ended {
                head.end(pending);
            }
        }
        let len = pending.len().min(buffer.remaining());
        buffer.put_slice(pending.get(..len).unwrap_or_default());
        pending.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LenientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_corrected_however_it_is_cut_and_the_body_is_not() {
        for (sent, read) in [
            (&b"http/1.1 200 OK\r\nX: a\rb\r\n\r\nhttp\rx"[..], &b"HTTP/1.1 200 OK\r\nX: a b\r\n\r\nhttp\rx"[..]),
            (b"Http/1.0 200 OK\nX: a\r\r\n\nx\r", b"HTTP/1.0 200 OK\nX: a \r\n\nx\r"),
            (b"HTTP/1.1 200 OK\r\nX: 1\r", b"HTTP/1.1 200 OK\r\nX: 1\r"),
            (b"SSH-2.0\r\n\r\n\r", b"SSH-2.0\r\n\r\n\r"),
        ] {
            for len in 1..=sent.len() {
                let (mut head, mut out) = (Head::default(), BytesMut::new());
                sent.chunks(len).for_each(|bytes| head.correct(bytes, &mut out));
                head.end(&mut out);
                assert_eq!(out, read, "{}", sent.escape_ascii());
            }
        }
    }
}
