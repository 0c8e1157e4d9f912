//! The lines of a log's body, in bounded memory.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use url::Url;
use wire::event::Event;

use crate::{InfoError, Result, error::root_cause};

/// Size of a page, in bytes. The last line may exceed it.
const PAGE_SIZE: usize = 8 << 20;
/// Bytes that every line counts at least: an empty line takes memory, too.
const MIN_LINE_SIZE: usize = 64;
/// Longest line, in bytes. It is longer than the broker's longest message: the log must carry what the broker cannot.
const MAX_LINE_LEN: usize = PAGE_SIZE;

/// Reader of the lines of a body.
pub(super) struct Lines {
    stream: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    buffer: BytesMut,
    base: Url,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Lines {
    pub(super) fn new(stream: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static, base: Url) -> Self {
        Self { stream: Box::pin(stream), buffer: BytesMut::new(), base }
    }

    /// Reads a page, and returns true with it if it is the last one. Every other page contains a readable event: without one, the
    /// number that the page reaches would be unknown.
    pub(super) async fn page(&mut self) -> Result<(Vec<Bytes>, bool)> {
        let (mut lines, mut size) = (Vec::new(), 0);
        while let Some(line) = self.next().await? {
            size += line.len().max(MIN_LINE_SIZE);
            lines.push(line);
            if size > PAGE_SIZE {
                if lines.iter().any(|line| Event::parse(line).is_ok()) {
                    return Ok((lines, false));
                }
                tracing::error!(lines = lines.len(), "skipped a page of the event log without a readable event");
                (lines, size) = (Vec::new(), 0);
            }
        }
        Ok((lines, true))
    }

    /// Reads the next line that is not blank. An empty line, which is no event, replaces one that is too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let (mut searched, mut is_too_long) = (0, false);
        loop {
            if let Some(found) = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(searched + found + 1);
                if is_too_long {
                    return Ok(Some(Bytes::new()));
                }
                line.truncate(searched + found);
                if line.iter().all(u8::is_ascii_whitespace) {
                    searched = 0;
                    continue;
                }
                return Ok(Some(line.freeze()));
            }
            searched = self.buffer.len();
            if searched > MAX_LINE_LEN {
                is_too_long = true;
                self.buffer.clear();
                searched = 0;
            }
            match self.stream.next().await {
                Some(Ok(more)) => self.buffer.extend_from_slice(&more),
                Some(Err(error)) => return Err(InfoError::unreachable(&self.base, root_cause(&error))),
                // A truncated line is no event: the log broke off.
                None if searched > 0 || is_too_long => {
                    return Err(InfoError::unusable(&self.base, "the event log broke off"));
                }
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: Vec<Vec<u8>>) -> Lines {
        let stream = futures::stream::iter(parts.into_iter().map(|part| Ok(part.into())));
        Lines::new(stream, "http://127.0.0.1:1".parse().unwrap())
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let long = vec![b'x'; MAX_LINE_LEN / 2 + 1];
        let mut lines = lines(vec![b"a\n \nb".to_vec(), b"c\n".to_vec(), long.clone(), long, b"y\nd\n".to_vec()]);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        assert_eq!(all, [&b"a"[..], b"bc", b"", b"d"]);
    }

    #[tokio::test]
    async fn a_log_that_broke_off_is_not_read_as_a_whole_one() {
        for parts in [vec![b"a\nb".to_vec()], vec![vec![b'x'; MAX_LINE_LEN + 1]]] {
            let mut lines = lines(parts);
            assert!(lines.page().await.is_err());
        }
    }
}
