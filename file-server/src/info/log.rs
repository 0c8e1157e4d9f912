//! The log of facts, read piece by piece: neither a long log nor a long line may take all memory, or stop the log for ever.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bus::{BusError, EventLog, LogBatch, Position};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use tokio::time::timeout;
use wire::event::{Event, LogHeader};

use super::{InfoError, InfoServer, garbled, success};

/// For a piece of a log, beyond what it was asked to wait.
const PIECE_WAIT: Duration = Duration::from_secs(10);
/// How much of a log is taken in at once, in bytes.
const PIECE: usize = 8 << 20;
/// What a line counts at least, in bytes: it takes memory even if it is empty.
const LEAST: usize = 64;
/// The longest line of a log, in bytes. Longer than the broker's longest message: what that one cannot carry, the log must.
const MAX_LINE: usize = PIECE;

/// What is left of a present state of which pieces were taken in. Its numbers mean nothing before its end, so there is no
/// asking for the rest of it: the answer itself is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Snapshot>>>);

#[derive(Debug)]
struct Snapshot {
    header: LogHeader,
    lines: Lines,
}

impl Rest {
    fn take(&self) -> Option<Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    fn is_some(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// For the event bus.
#[async_trait]
impl EventLog for InfoServer {
    async fn after(&self, position: Position, wait: Duration) -> Result<LogBatch, BusError> {
        let piece = async {
            match self.rest.take() {
                Some(snapshot) => self.next_piece(snapshot).await,
                None => self.first_piece(position, wait).await,
            }
        };
        let piece = timeout(wait.saturating_add(PIECE_WAIT), piece).await.unwrap_or(Err(InfoError::Late));
        piece.map_err(|error| BusError::Log(Box::new(error)))
    }
}

impl InfoServer {
    /// Whether the piece read last was not the end of a present state.
    pub(crate) fn has_more(&self) -> bool {
        self.rest.is_some()
    }

    /// A piece could not be taken in: what follows it would be remembered without it.
    pub(crate) fn start_over(&self) {
        drop(self.rest.take());
    }

    async fn first_piece(&self, position: Position, wait: Duration) -> Result<LogBatch, InfoError> {
        let mut query = vec![("after", position.seq.to_string()), ("wait", wait.as_secs().to_string())];
        if position.seen > position.seq {
            query.push(("seen", position.seen.to_string()));
        }
        query.extend(position.epoch.map(|epoch| ("epoch", epoch.to_string())));
        let request = self.client.get(self.own("/events")).query(&query);
        let response = success(self.authenticated(request).send().await?).await?;
        let mut lines = Lines { stream: Box::pin(response.bytes_stream()), buffer: BytesMut::new() };
        let first = lines.next().await?.ok_or_else(|| garbled("an empty log"))?;
        let header: LogHeader = serde_json::from_slice(&first).map_err(garbled)?;
        let (piece, ended) = lines.piece().await?;
        if ended {
            return Ok(LogBatch { header, lines: piece });
        }
        if header.snapshot {
            self.rest.keep(Snapshot { header: header.clone(), lines });
            // It reaches no further than what was known before.
            return Ok(LogBatch { header: LogHeader { as_of: 0, ..header }, lines: piece });
        }
        // The lines of a log ascend over all streams, so that it reaches as far as its last line. The rest is asked for.
        let as_of = piece.iter().rev().find_map(|line| Event::parse(line).ok()).map(|event| event.seq);
        let as_of = as_of.ok_or_else(|| garbled("no line of the log can be read"))?;
        Ok(LogBatch { header: LogHeader { as_of, ..header }, lines: piece })
    }

    async fn next_piece(&self, mut snapshot: Snapshot) -> Result<LogBatch, InfoError> {
        let (lines, ended) = snapshot.lines.piece().await?;
        let as_of = if ended { snapshot.header.as_of } else { 0 };
        // What the present state lacks was voided with its first piece.
        let header = LogHeader { as_of, snapshot: false, ..snapshot.header };
        if !ended {
            self.rest.keep(snapshot);
        }
        Ok(LogBatch { header, lines })
    }
}

/// The lines of a body.
struct Lines {
    stream: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    buffer: BytesMut,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Lines {
    /// As many lines as are taken in at once, and whether they are the last ones. There is one that can be read among them
    /// unless they are: a piece without any would say nothing of how far it reaches.
    async fn piece(&mut self) -> Result<(Vec<Bytes>, bool), InfoError> {
        let (mut lines, mut size) = (Vec::new(), 0);
        while let Some(line) = self.next().await? {
            size += line.len().max(LEAST);
            lines.push(line);
            if size > PIECE {
                if lines.iter().any(|line| Event::parse(line).is_ok()) {
                    return Ok((lines, false));
                }
                tracing::error!(lines = lines.len(), "no line in a piece of the log can be read: passing it over");
                (lines, size) = (Vec::new(), 0);
            }
        }
        Ok((lines, true))
    }

    /// The next line that is not empty. In the place of one that is too long stands nothing, which no event is.
    async fn next(&mut self) -> Result<Option<Bytes>, InfoError> {
        let (mut searched, mut passed_over) = (0, false);
        loop {
            if let Some(found) = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(searched + found + 1);
                if passed_over {
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
            if searched > MAX_LINE {
                passed_over = true;
                self.buffer.clear();
                searched = 0;
            }
            match self.stream.next().await {
                Some(more) => self.buffer.extend_from_slice(&more?),
                // A line that was cut off is not an event: the log was.
                None if searched > 0 || passed_over => return Err(garbled("the log broke off")),
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
        Lines { stream: Box::pin(stream), buffer: BytesMut::new() }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over_and_the_next_one_is_read() {
        let long = vec![b'x'; MAX_LINE / 2 + 1];
        let mut lines = lines(vec![b"a\n \nb".to_vec(), b"c\n".to_vec(), long.clone(), long, b"y\nd\n".to_vec()]);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        assert_eq!(all, [&b"a"[..], b"bc", b"", b"d"]);
    }

    #[tokio::test]
    async fn a_log_that_broke_off_is_not_taken_for_a_whole_one() {
        for parts in [vec![b"a\nb".to_vec()], vec![vec![b'x'; MAX_LINE + 1]]] {
            let mut lines = lines(parts);
            assert!(lines.piece().await.is_err());
        }
    }
}
