//! Replica reports: always the full state of a file, repeated until the info-server accepted it, at most two a second for each
//! file that still grows.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use info_client::InfoError;
use lifecycle::{Shutdown, data_folder::FolderReplaced};
use wire::{ChunkSet, FileId, server::ReplicaReport};

use crate::{
    db::{DatabaseError, reports::PendingReport},
    state::AppState,
};

/// Time between two reports of a file that still grows.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two look-ups while no report is due: another process may have removed orphaned files.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Reports read from the database at once.
const BATCH_SIZE: u32 = 256;
/// Reports in flight.
const MAX_IN_FLIGHT: usize = 4;
/// First and longest pause after a report that was not accepted.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(200);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(3);

/// Reports replicas.
#[derive(Debug)]
pub(crate) struct Reporter {
    state: Arc<AppState>,
}

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Folder(#[from] FolderReplaced),
}

impl Reporter {
    pub(crate) const fn new(state: Arc<AppState>) -> Self {
        Self { state }
    }

    /// Reports until `shutdown`; reports that are left stay in the database.
    pub(crate) async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut sent = HashMap::new();
        let mut pause = MIN_RETRY_PAUSE;
        while !finishing.is_cancelled() {
            let round = tokio::select! {
                sent_round = self.send_due(&mut sent) => sent_round,
                () = finishing.cancelled() => break,
            };
            let wait = match round {
                Ok(wait) => {
                    pause = MIN_RETRY_PAUSE;
                    wait
                }
                Err(error) => {
                    tracing::debug!(%error, "The info-server did not accept replica reports; trying again");
                    pause = (pause * 2).min(MAX_RETRY_PAUSE);
                    Some(pause)
                }
            };
            tokio::select! {
                () = self.state.blobs.events().changed() => {}
                () = tokio::time::sleep(wait.unwrap_or(POLL_INTERVAL)) => {}
                () = finishing.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Sends the reports that are due, and returns the time until the next one is.
    async fn send_due(&self, sent: &mut HashMap<FileId, Instant>) -> Result<Option<Duration>, ReportError> {
        // What is reported counts for quorums.
        self.state.blobs.check_folder().await?;
        let now = Instant::now();
        sent.retain(|_, at| now.saturating_duration_since(*at) < MIN_REPORT_INTERVAL);
        let pending = self.state.db.note(self.state.db.pending_reports(BATCH_SIZE).await)?;
        let grace = |file| self.state.blobs.read_back_grace(file);
        let DueReports { due, wait } = due(&pending, sent, now, grace);
        sent.extend(due.iter().map(|report| (report.file, now)));
        let more = due.len() == pending.len() && !due.is_empty();
        let mut sending = stream::iter(due).map(|report| self.send(report)).buffer_unordered(MAX_IN_FLIGHT);
        let mut outcome = Ok(());
        while let Some(accepted) = sending.next().await {
            outcome = outcome.and(accepted);
        }
        outcome?;
        Ok(if more { Some(Duration::ZERO) } else { wait })
    }

    async fn send(&self, pending: PendingReport) -> Result<(), ReportError> {
        // From the record, read after the counter: a blob in memory lags behind the commit that the counter stands for.
        let (runs, root, sha256) = match self.state.db.file(pending.file).await? {
            Some(file) => (file.chunks, file.root, file.sha256),
            None => (ChunkSet::new(), None, None),
        };
        let report = ReplicaReport { counter: pending.counter, runs, root, sha256 };
        match self.state.info.report_replica(pending.file, &report).await {
            Ok(()) => {
                self.state.metrics.reports.inc();
            }
            // The catalogue does not have the file: its status is to be reconciled.
            Err(error) if matches!(error.http_status(), Some(404 | 410)) => {
                tracing::debug!(file = %pending.file, "The info-server has no file {}", pending.file);
                self.state.db.question_file(pending.file).await?;
                self.state.open_questions.notify_one();
            }
            Err(error) => return Err(error.into()),
        }
        self.state.db.remove_report(pending).await?;
        Ok(())
    }
}

/// Reports that are due, and the time until the next one is.
#[derive(Debug, PartialEq, Eq)]
struct DueReports {
    due: Vec<PendingReport>,
    wait: Option<Duration>,
}

/// Returns the reports that are due. Settled ones wait for nothing, except those of complete files that are being read back:
/// `grace` gives the time that is left for that.
fn due(
    pending: &[PendingReport],
    sent: &HashMap<FileId, Instant>,
    now: Instant,
    grace: impl Fn(FileId) -> Option<Duration>,
) -> DueReports {
    let left = |report: &PendingReport| {
        if report.unread {
            return grace(report.file);
        }
        let next = sent.get(&report.file).filter(|_| !report.settled)?.checked_add(MIN_REPORT_INTERVAL)?;
        next.checked_duration_since(now).filter(|left| !left.is_zero())
    };
    let due = pending.iter().filter(|report| left(report).is_none()).copied().collect();
    DueReports { due, wait: pending.iter().filter_map(left).min() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_files_are_reported_at_intervals_and_settled_ones_at_once() {
        let now = Instant::now();
        let report = |settled| PendingReport { file: FileId::new(), counter: 1, settled, unread: false };
        let (fresh, growing, complete) = (report(false), report(false), report(true));
        let unread = |_| panic!("only asked for files that were not read back");
        let sent = [(growing.file, now), (complete.file, now)].into();
        let pending = [fresh, growing, complete];
        let found = due(&pending, &sent, now, unread);
        assert_eq!(found, DueReports { due: vec![fresh, complete], wait: Some(MIN_REPORT_INTERVAL) });
        let found = due(&pending, &sent, now + MIN_REPORT_INTERVAL, unread);
        assert_eq!(found, DueReports { due: pending.to_vec(), wait: None });
        assert_eq!(due(&[], &sent, now, unread), DueReports { due: vec![], wait: None });
    }

    #[test]
    fn a_complete_file_is_reported_once_it_was_read_back_or_that_takes_too_long() {
        let report = PendingReport { file: FileId::new(), counter: 1, settled: true, unread: true };
        let (sent, now, left) = (HashMap::new(), Instant::now(), Duration::from_secs(2));
        let found = due(&[report], &sent, now, |_| Some(left));
        assert_eq!(found, DueReports { due: vec![], wait: Some(left) });
        for (report, grace) in [(report, None), (PendingReport { unread: false, ..report }, Some(left))] {
            let found = due(&[report], &sent, now, |_| grace);
            assert_eq!(found, DueReports { due: vec![report], wait: None });
        }
    }
}
