//! Reports of replicas: always the full state, repeated until it was accepted, a few per second and file at most.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use lifecycle::Shutdown;
use reqwest::StatusCode;
use wire::{FileId, Runs, server::ReplicaReport};

use crate::{
    info::InfoError,
    server::Server,
    store::{PendingReport, StoreError},
};

/// Between two reports of a file that is still growing.
const APART: Duration = Duration::from_millis(500);
/// Between two looks when nothing is known to be due: another process may have removed what nobody knows.
const LOOK: Duration = Duration::from_secs(10);
/// Reports read from the database at once.
const ROUND: u32 = 256;
/// Reports on their way at once.
const AT_ONCE: usize = 4;
/// After a report was not accepted: the first pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Reports replicas.
#[derive(Debug)]
pub(crate) struct Reporter(pub(crate) Arc<Server>);

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reporter {
    /// Reports until `shutdown`; what is left is in the database.
    pub(crate) async fn keep_reporting(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut sent = HashMap::new();
        let mut pause = PAUSES.0;
        while !finishing.is_cancelled() {
            let round = tokio::select! {
                round = self.round(&mut sent) => round,
                () = finishing.cancelled() => break,
            };
            let wait = match round {
                Ok(wait) => {
                    pause = PAUSES.0;
                    wait
                }
                Err(error) => {
                    tracing::debug!(%error, "reports of replicas were not accepted; trying again");
                    pause = (pause * 2).min(PAUSES.1);
                    Some(pause)
                }
            };
            tokio::select! {
                () = self.0.blobs.changed.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or(LOOK)) => {}
                () = finishing.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Sends what is due; answers when the next is.
    async fn round(&self, sent: &mut HashMap<FileId, Instant>) -> Result<Option<Duration>, ReportError> {
        let now = Instant::now();
        sent.retain(|_, at| now.saturating_duration_since(*at) < APART);
        let pending = self.0.store.pending_reports(ROUND).await?;
        let (due, wait) = due(&pending, sent, now);
        sent.extend(due.iter().map(|report| (report.file, now)));
        let more = due.len() == pending.len() && !due.is_empty();
        let mut sending = stream::iter(due).map(|report| self.send(report)).buffer_unordered(AT_ONCE);
        let mut outcome = Ok(());
        while let Some(accepted) = sending.next().await {
            outcome = outcome.and(accepted);
        }
        outcome?;
        Ok(if more { Some(Duration::ZERO) } else { wait })
    }

    async fn send(&self, pending: PendingReport) -> Result<(), ReportError> {
        // From the row, read after the counter: a blob in memory lags behind the commit that the counter stands for.
        let (runs, root, sha256) = match self.0.store.file(pending.file).await? {
            Some(file) => (file.runs, file.root, file.sha256),
            None => (Runs::new(), None, None),
        };
        let report = ReplicaReport { counter: pending.counter, runs, root, sha256 };
        match self.0.info.report(pending.file, &report).await {
            Ok(()) => {
                self.0.metrics.reports.inc();
            }
            // The catalogue has forgotten the file: there is nothing to tell about it.
            Err(InfoError::Refused { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. }) => {
                tracing::debug!(file = %pending.file, "the info-server does not know a file that is held here");
                self.0.store.ask_about(pending.file).await?;
                self.0.asking.notify_one();
            }
            Err(error) => return Err(error.into()),
        }
        self.0.store.report_done(pending).await?;
        Ok(())
    }
}

/// Which reports are due, and when the next one is. Settled ones wait for nothing.
fn due(
    pending: &[PendingReport],
    sent: &HashMap<FileId, Instant>,
    now: Instant,
) -> (Vec<PendingReport>, Option<Duration>) {
    let left = |report: &PendingReport| {
        let next = sent.get(&report.file).filter(|_| !report.settled)?.checked_add(APART)?;
        next.checked_duration_since(now).filter(|left| !left.is_zero())
    };
    let due = pending.iter().filter(|report| left(report).is_none()).copied().collect();
    (due, pending.iter().filter_map(left).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_files_are_reported_now_and_then_and_settled_ones_at_once() {
        let now = Instant::now();
        let report = |settled| PendingReport { file: FileId::new(), counter: 1, settled };
        let (fresh, growing, complete) = (report(false), report(false), report(true));
        let sent = [(growing.file, now), (complete.file, now)].into();
        let pending = [fresh, growing, complete];
        assert_eq!(due(&pending, &sent, now), (vec![fresh, complete], Some(APART)));
        assert_eq!(due(&pending, &sent, now + APART), (pending.to_vec(), None));
        assert_eq!(due(&[], &sent, now), (vec![], None));
    }
}
