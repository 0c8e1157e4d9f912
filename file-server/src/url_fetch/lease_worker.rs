//! Work under one lease: connections fetch chunks, and reports renew the lease while they do.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chunk_store::BlobError;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use info_client::InfoError;
use origin::{ContentVersion, Origins};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use wire::{
    ChunkSet, Digest, JobId,
    job::{ChunkDigest, JobReason, Lease, LeaseRenewal, LeaseReport, MAX_CONNECTIONS, MAX_REPORTED, SpanFailure},
};

use super::{
    lease_target::{LeaseTarget, give_back, prepare},
    origin_connection::{ConnectionError, FetchedChunk, OriginConnection},
    span_queue::SpanQueue,
};
use crate::state::AppState;

/// Time between two reports while chunks were fetched.
const REPORT_INTERVAL: Duration = Duration::from_millis(300);
/// Time between two reports in any case: they renew the lease.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest pause after a report that did not arrive. A restarted info-server gives a span to another worker when it
/// gets no report soon after the longest one.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(200);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Time after which reports without an answer are not repeated.
const REPORT_TIMEOUT: Duration = Duration::from_secs(600);
/// Chunks that may wait for their sync.
const MAX_SYNCING_CHUNKS: usize = 32;
/// Times that all chunks are reported again to an info-server that still misses some.
const MAX_REPEATED_REPORTS: u32 = 3;

/// Outcome of the work under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseOutcome {
    /// All chunks are fetched and reported.
    Finished,
    /// Another worker has what is left of the span.
    Stale,
    /// The span was given back, and the info-server has the reason.
    Failed,
    /// The job has no more work for this server.
    JobOver,
}

/// A lease, and what its worker needs.
#[derive(Debug)]
pub(super) struct LeaseTask {
    pub(super) state: Arc<AppState>,
    pub(super) origins: Origins,
    pub(super) job: JobId,
    pub(super) lease: Lease,
}

/// Passes the lease's chunks on once the work is begun.
pub(super) type Started = oneshot::Sender<Arc<SpanQueue>>;

/// A chunk, and the outcome of its commit.
struct CommitOutcome {
    n: u32,
    digest: Digest,
    outcome: Result<(), BlobError>,
}

/// A report, and the info-server's answer.
struct ReportOutcome {
    report: LeaseReport,
    answer: Result<LeaseRenewal, InfoError>,
}

/// Fetches the span of one lease, and reports it.
struct LeaseWorker {
    state: Arc<AppState>,
    job: JobId,
    lease: Lease,
    span: Arc<SpanQueue>,
    /// Bytes that came from the origin.
    bytes: Arc<AtomicU64>,
    connections: JoinSet<Result<(), ConnectionError>>,
    fetched: mpsc::Receiver<FetchedChunk>,
    /// Chunks that wait for their sync.
    committing: FuturesUnordered<BoxFuture<'static, CommitOutcome>>,
    /// The report in flight; one at most.
    reporting: FuturesUnordered<BoxFuture<'static, ReportOutcome>>,
    /// Chunks that count here.
    done: BTreeMap<u32, Digest>,
    /// The part of `done` that the info-server has not acknowledged.
    unreported: BTreeMap<u32, Digest>,
    failed: Option<SpanFailure>,
    /// The failure of a connection that the origin refused while it served others.
    refused: Option<ConnectionError>,
    repeated_reports: u32,
    last_accepted_at: Instant,
    /// Time before which no report is sent, because the last one was not accepted.
    not_before: Instant,
    retry_pause: Duration,
}

/// Works off a lease.
pub(super) async fn work_off(task: LeaseTask, started: Started) -> LeaseOutcome {
    let (state, job, fence, span) = (task.state.clone(), task.job, task.lease.fence, task.lease.span);
    let purpose = task.lease.purpose;
    tracing::debug!(%job, fence, start = span.start(), end = span.end(), ?purpose, "Received a span of job {job}");
    let outcome = match prepare(&state, job, &task.lease).await {
        Ok(target) => LeaseWorker::start(task, target, started).run().await,
        Err(BlobError::Deleted) => LeaseOutcome::JobOver,
        Err(error) => {
            give_back(&state, job, &task.lease, &error).await;
            LeaseOutcome::Failed
        }
    };
    if outcome == LeaseOutcome::Stale {
        state.metrics.stale_leases.inc();
    }
    tracing::debug!(%job, fence, ?outcome, "Work on a span of job {job} ended");
    outcome
}

impl LeaseWorker {
    fn start(task: LeaseTask, target: LeaseTarget, started: Started) -> Self {
        let LeaseTask { state, origins, job, lease } = task;
        let LeaseTarget { blob, layout, held } = target;
        let have: ChunkSet = held.keys().map(|n| *n..n.saturating_add(1)).collect();
        let count = lease.connections.clamp(1, MAX_CONNECTIONS);
        let span = Arc::new(SpanQueue::new(have.gaps(lease.span.range()), lease.span.end(), count));
        // The job's worker may have stopped.
        let _ = started.send(span.clone());
        let (sender, fetched) = mpsc::channel(MAX_SYNCING_CHUNKS);
        let bytes = Arc::new(AtomicU64::new(0));
        let connection = Arc::new(OriginConnection {
            state: state.clone(),
            origins,
            url: lease.url.clone(),
            version: ContentVersion { size: lease.size, validator: lease.validator.clone() },
            layout,
            blob,
            span: span.clone(),
            bytes: bytes.clone(),
            fetched: sender,
        });
        let mut connections = JoinSet::new();
        for _ in 0..count {
            connections.spawn(Box::pin(connection.clone().run()));
        }
        let now = Instant::now();
        Self {
            state,
            job,
            lease,
            span,
            bytes,
            connections,
            fetched,
            committing: FuturesUnordered::new(),
            reporting: FuturesUnordered::new(),
            done: held.clone(),
            unreported: held,
            failed: None,
            refused: None,
            repeated_reports: 0,
            last_accepted_at: now,
            not_before: now,
            retry_pause: MIN_RETRY_PAUSE,
        }
    }

    async fn run(mut self) -> LeaseOutcome {
        loop {
            let due = self.due();
            if self.reporting.is_empty() && due <= Instant::now() {
                self.send_report();
            }
            let outcome = tokio::select! {
                Some(fetched) = self.fetched.recv(), if self.committing.len() < MAX_SYNCING_CHUNKS => {
                    self.commit(fetched);
                    None
                }
                Some(committed) = self.committing.next() => self.committed(committed),
                Some(ended) = self.connections.join_next() => self.connection_ended(ended),
                Some(reported) = self.reporting.next() => self.answered(reported),
                () = sleep_until(due), if self.reporting.is_empty() => None,
            };
            if let Some(outcome) = outcome {
                // The connections end with this worker.
                return outcome;
            }
        }
    }

    /// Returns true if no more chunks will come.
    fn is_settled(&self) -> bool {
        self.connections.is_empty() && self.fetched.is_empty() && self.committing.is_empty()
    }

    /// Returns the time of the next report.
    fn due(&self) -> Instant {
        let wait = match (self.is_settled(), self.unreported.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => REPORT_INTERVAL,
            (false, true) => RENEWAL_INTERVAL,
        };
        self.not_before.max(self.last_accepted_at + wait)
    }

    fn send_report(&mut self) {
        let chunks =
            self.unreported.iter().take(MAX_REPORTED).map(|(n, sha256)| ChunkDigest { n: *n, sha256: *sha256 });
        let report = LeaseReport {
            chunks: chunks.collect(),
            bytes: self.bytes.load(Ordering::Relaxed),
            failed: self.failed.clone().filter(|_| self.is_settled() && self.unreported.len() <= MAX_REPORTED),
        };
        let (state, job, fence) = (self.state.clone(), self.job, self.lease.fence);
        let reporting = async move {
            let answer = state.info.renew_lease(job, fence, &report).await;
            ReportOutcome { report, answer }
        };
        self.reporting.push(reporting.boxed());
    }

    fn commit(&mut self, fetched: FetchedChunk) {
        match fetched {
            FetchedChunk::Hashed { n, digest } => self.add_done(n, digest),
            FetchedChunk::Written { n, chunk } => {
                let (state, digest) = (self.state.clone(), chunk.digest());
                let commit = async move {
                    let outcome = state.blobs.commit_chunk(chunk).await;
                    CommitOutcome { n, digest, outcome }
                };
                self.committing.push(commit.boxed());
            }
        }
    }

    fn add_done(&mut self, n: u32, digest: Digest) {
        self.state.metrics.origin_chunks.inc();
        self.done.insert(n, digest);
        self.unreported.insert(n, digest);
    }

    fn committed(&mut self, CommitOutcome { n, digest, outcome }: CommitOutcome) -> Option<LeaseOutcome> {
        match outcome {
            Ok(()) => self.add_done(n, digest),
            Err(error) => return self.fail(&ConnectionError::Store(error)),
        }
        None
    }

    fn connection_ended(&mut self, ended: Result<Result<(), ConnectionError>, JoinError>) -> Option<LeaseOutcome> {
        match ended {
            // Another connection ended before it could take what a refused one put back.
            Ok(Ok(())) if self.connections.is_empty() && self.span.has_waiting() => {
                let refused = self.refused.take();
                refused.and_then(|error| self.fail(&error))
            }
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.is_busy() && !self.connections.is_empty() && self.failed.is_none() => {
                tracing::debug!(job = %self.job, %error, "The origin of job {} serves fewer connections", self.job);
                self.refused = Some(error);
                None
            }
            Ok(Err(error)) => self.fail(&error),
            Err(error) if error.is_cancelled() => None,
            Err(error) => self.fail(&ConnectionError::Store(BlobError::Disk(std::io::Error::other(error)))),
        }
    }

    /// Gives the rest of the span back. Chunks that count by now are still reported.
    fn fail(&mut self, error: &ConnectionError) -> Option<LeaseOutcome> {
        let failure = match error {
            ConnectionError::Store(BlobError::Deleted) => return Some(LeaseOutcome::JobOver),
            ConnectionError::Store(_) => SpanFailure { reason: JobReason::WorkersFailed, retry_after_s: None },
            ConnectionError::Origin(fault) => {
                let wait = fault.retry_after.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX));
                SpanFailure { reason: fault.reason, retry_after_s: wait }
            }
        };
        self.connections.abort_all();
        if self.failed.is_none() {
            let (job, url) = (self.job, &self.lease.url);
            tracing::warn!(%job, %url, fence = self.lease.fence, %error, "A span of job {job} is given back");
            self.state.metrics.spans_failed.inc();
            self.failed = Some(failure);
        }
        None
    }

    fn answered(&mut self, ReportOutcome { report, answer }: ReportOutcome) -> Option<LeaseOutcome> {
        let renewed = match answer {
            Ok(renewed) => renewed,
            Err(error) if error.http_status() == Some(409) => return Some(LeaseOutcome::Stale),
            Err(error) if error.http_status().is_some_and(is_job_over) => return Some(LeaseOutcome::JobOver),
            Err(error) => return self.retry_report(&error),
        };
        (self.last_accepted_at, self.retry_pause) = (Instant::now(), MIN_RETRY_PAUSE);
        for chunk in &report.chunks {
            self.unreported.remove(&chunk.n);
        }
        if report.failed.is_some() {
            return Some(LeaseOutcome::Failed);
        }
        let Some(span) = renewed.span else { return Some(LeaseOutcome::Finished) };
        self.span.truncate(span.end());
        if self.is_settled() && self.unreported.is_empty() && self.failed.is_none() {
            self.repeat_report();
        }
        None
    }

    /// Reports everything again, a few times: the info-server has accepted it all and still misses chunks.
    fn repeat_report(&mut self) {
        self.repeated_reports += 1;
        self.not_before = Instant::now() + REPORT_INTERVAL;
        self.unreported.clone_from(&self.done);
        if self.repeated_reports > MAX_REPEATED_REPORTS {
            self.failed = Some(SpanFailure { reason: JobReason::WorkersFailed, retry_after_s: None });
        }
    }

    /// Schedules a report again that did not arrive; the connections go on meanwhile.
    fn retry_report(&mut self, error: &InfoError) -> Option<LeaseOutcome> {
        tracing::debug!(job = %self.job, %error, "A report on a span of job {} did not arrive; trying again", self.job);
        if self.last_accepted_at.elapsed() > REPORT_TIMEOUT {
            return Some(LeaseOutcome::JobOver);
        }
        self.not_before = Instant::now() + self.retry_pause;
        self.retry_pause = (self.retry_pause * 2).min(MAX_RETRY_PAUSE);
        None
    }
}

/// Returns true if a refusal means that the job has no more work for this server.
pub(super) fn is_job_over(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 410)
}
