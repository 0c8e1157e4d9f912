//! The event log, read one page at a time: neither a long log nor a long line may exhaust the memory or block the log for good.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use tokio::time::timeout;
use wire::{
    event::{Event, LogHeader},
    id::Epoch,
};

use super::{FileServerClient, lines::Lines, open_snapshot::Snapshot};
use crate::{Result, error::root_cause};

/// Time for one page of the log, in addition to the time that the info-server was asked to wait.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Position up to which a file server has applied the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// Epoch that `seq` counts in; none before the first event.
    pub epoch: Option<Epoch>,
    /// Number up to which all events of the server's own streams were applied.
    pub seq: u64,
    /// Highest number seen in any of them. A log that ends before it belongs to a database that was restored.
    pub seen: u64,
}

/// Page of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// Kind of the lines, and the number that they reach.
    pub header: LogHeader,
    /// One serialised [`Event`] each.
    pub lines: Vec<Bytes>,
}

impl FileServerClient {
    /// Waits until the stream to all servers reaches beyond `after`, and returns how far it does.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn wait_for_broadcast(&self, epoch: Epoch, after: u64, wait: Duration) -> Result<LogHeader> {
        let query = [("epoch", epoch.to_string()), ("after", after.to_string()), ("wait", wait.as_secs().to_string())];
        let request = self.transport.request(Method::GET, &self.own_path("/events"));
        let request = request.timeout(wait + self.transport.deadline);
        self.transport.fetch(request.query(&query).query(&[("notice", "true")])).await
    }

    /// Returns the page of the log after `position`, or the next page of a snapshot that is being read. Waits up to `wait` for its
    /// first event.
    ///
    /// # Errors
    /// [`InfoError`](crate::InfoError).
    pub async fn read_log(&self, position: LogPosition, wait: Duration) -> Result<LogPage> {
        let page = async {
            match self.open_snapshot.take() {
                Some(snapshot) => self.next_page(snapshot).await,
                None => self.first_page(position, wait).await,
            }
        };
        let late = || self.transport.unreachable("the event log did not arrive in time");
        timeout(wait.saturating_add(PAGE_TIMEOUT), page).await.unwrap_or_else(|_| Err(late()))
    }

    /// Returns true if the last page was not the end of a snapshot.
    pub fn has_more_log(&self) -> bool {
        self.open_snapshot.is_some()
    }

    /// Drops the rest of a snapshot of which a page could not be applied: its end would set a position that skips the page.
    pub fn restart_log(&self) {
        drop(self.open_snapshot.take());
    }

    async fn first_page(&self, position: LogPosition, wait: Duration) -> Result<LogPage> {
        let mut query = vec![("after", position.seq.to_string()), ("wait", wait.as_secs().to_string())];
        if position.seen > position.seq {
            query.push(("seen", position.seen.to_string()));
        }
        query.extend(position.epoch.map(|epoch| ("epoch", epoch.to_string())));
        let request = self.transport.request_without_deadline(Method::GET, &self.own_path("/events")).query(&query);
        let mut lines = self.open_lines(request).await?;
        let first = lines.next().await?.ok_or_else(|| self.transport.unusable("the event log is empty"))?;
        let header: LogHeader = serde_json::from_slice(&first).map_err(|error| self.transport.unusable(error))?;
        let (page, is_last) = lines.page().await?;
        if is_last {
            return Ok(LogPage { header, lines: page });
        }
        if header.snapshot {
            self.open_snapshot.keep(Snapshot { header: header.clone(), lines });
            // It reaches no further than the position before.
            return Ok(LogPage { header: LogHeader { as_of: 0, ..header }, lines: page });
        }
        // The lines of a log ascend over all streams, so that it reaches as far as its last line. The rest is requested.
        let as_of = page.iter().rev().find_map(|line| Event::parse(line).ok()).map(|event| event.seq);
        let as_of = as_of.ok_or_else(|| self.transport.unusable("no line of the event log can be read"))?;
        Ok(LogPage { header: LogHeader { as_of, ..header }, lines: page })
    }

    async fn next_page(&self, mut snapshot: Snapshot) -> Result<LogPage> {
        let (lines, is_last) = snapshot.lines.page().await?;
        let as_of = if is_last { snapshot.header.as_of } else { 0 };
        // State that the snapshot lacks was voided with its first page.
        let header = LogHeader { as_of, snapshot: false, ..snapshot.header };
        if !is_last {
            self.open_snapshot.keep(snapshot);
        }
        Ok(LogPage { header, lines })
    }

    async fn open_lines(&self, request: RequestBuilder) -> Result<Lines> {
        let transport = &self.transport;
        let lost = |error: reqwest::Error| transport.unreachable(root_cause(&error));
        let answer = request.send().await.map_err(lost)?;
        if answer.status().is_success() {
            return Ok(Lines::new(answer.bytes_stream(), transport.base.clone()));
        }
        transport.read(answer).await.map_err(lost)??;
        Err(transport.unusable("a refusal became a success"))
    }
}
