//! The check of buffered bytes: heads whole, bodies as far as they have arrived.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncRead;
use wire::Problem;

use super::{
    Position, RequestFilter,
    chunked::ChunkedBody,
    head::{self, Framing, MAX_HEAD_SIZE},
};

impl<S: AsyncRead + Unpin> RequestFilter<S> {
    /// Checks the buffered bytes as far as possible and sets `checked`.
    pub(super) fn check_buffer(&mut self) -> io::Result<()> {
        match self.position {
            Position::Head => self.check_head(),
            Position::Body(left) => {
                let buffered = self.buffer.len();
                let part = usize::try_from(left).unwrap_or(usize::MAX).min(buffered);
                self.checked = part;
                self.position = Position::after_body_bytes(left, part);
            }
            Position::Chunked(mut body) => {
                self.checked = body.advance(&self.buffer).map_err(|_| {
                    self.position = Position::Closed;
                    io::Error::new(io::ErrorKind::InvalidData, "the chunked body is malformed")
                })?;
                self.position = if body == ChunkedBody::End { Position::Head } else { Position::Chunked(body) };
            }
            Position::Rejected | Position::Closed => {}
        }
        Ok(())
    }

    fn check_head(&mut self) {
        // A server should ignore empty lines before a request (RFC 9112 §2.2).
        while self.searched == 0 && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
        }
        if let Err(problem) = head::check_start(self.buffer.strip_prefix(b"\r").unwrap_or(&self.buffer)) {
            return self.reject(problem);
        }
        let Some(end) = self.end_of_head() else {
            if self.buffer.len() > MAX_HEAD_SIZE {
                self.reject(head::too_large(&self.buffer));
            }
            return;
        };
        let head = self.buffer.get(..end).unwrap_or_default();
        let checked = if end > MAX_HEAD_SIZE { Err(head::too_large(head)) } else { head::check(head) };
        match checked {
            Err(problem) => self.reject(problem),
            Ok(framing) => {
                self.checked = end;
                (self.searched, self.timer_set_for) = (0, None);
                self.accepted_heads = self.accepted_heads.saturating_add(1);
                self.position = match framing {
                    Framing::Length(0) => Position::Head,
                    Framing::Length(length) => Position::Body(length),
                    Framing::Chunked => Position::Chunked(ChunkedBody::START),
                };
            }
        }
    }

    /// Returns the length of the head, once its end is buffered. Any line ending counts here; [`head::check`] rejects those
    /// that are not CR LF.
    fn end_of_head(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        self.searched = self.buffer.len();
        find_empty_line(&self.buffer, from)
    }

    /// Replaces the buffered request by a stand-in, which the service answers with `problem`.
    pub(super) fn reject(&mut self, problem: Problem) {
        tracing::debug!(status = problem.status, reason = %problem.detail, "Rejected a malformed request");
        let stand_in: &[u8] = if self.buffer.starts_with(b"HEAD ") {
            b"HEAD / HTTP/1.1\r\nhost: refused\r\n\r\n"
        } else {
            b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n"
        };
        self.rejections.store(self.accepted_heads, problem);
        self.buffer = BytesMut::from(stand_in);
        self.checked = stand_in.len();
        (self.position, self.timer_set_for) = (Position::Rejected, None);
    }
}

/// Returns the end of the first empty line in `bytes` after a line that ends at or after `from`.
fn find_empty_line(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let line_feed = at + bytes.get(at..)?.iter().position(|byte| *byte == b'\n')?;
        at = line_feed + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_empty_line_is_found_in_however_many_parts_it_arrives(bytes in "[\r\na]{0,12}", part in 0..13_usize) {
            let bytes = bytes.as_bytes();
            let ends = |at: usize| [&b"\n\n"[..], b"\n\r\n"].into_iter().find(|end| bytes[at..].starts_with(end));
            let expected = (0..bytes.len()).find_map(|at| Some(at + ends(at)?.len()));
            prop_assert_eq!(find_empty_line(bytes, 0), expected);
            let part = part.min(bytes.len());
            if find_empty_line(&bytes[..part], 0).is_none() {
                prop_assert_eq!(find_empty_line(bytes, part.saturating_sub(3)), expected);
            }
        }
    }
}
