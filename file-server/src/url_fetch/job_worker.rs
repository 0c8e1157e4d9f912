//! Work on one job: a lease after the other, the next one claimed before the last one ends.

use std::{sync::Arc, time::Duration};

use chunk_store::{BlobError, VolumeState};
use lifecycle::fault_log::FaultLog;
use origin::Origins;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use wire::{
    ChunkSet, FileId, JobId,
    job::{Lease, LeaseClaim},
};

use super::{
    lease_worker::{LeaseOutcome, LeaseTask, is_job_over, work_off},
    span_queue::SpanQueue,
};
use crate::state::AppState;

static LOOKUP_FAULTS: FaultLog = FaultLog::new("Stored chunks of a job cannot be looked up");

/// Leases held at once: the connections to the origin do not idle while the next one is claimed.
const MAX_LEASES: usize = 2;
/// Shortest and longest pause between two claims while the job has no work, whatever pause the info-server names.
const MIN_CLAIM_PAUSE: Duration = Duration::from_millis(100);
const MAX_CLAIM_PAUSE: Duration = Duration::from_secs(5);
/// Pause after a lease that failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
/// First and longest pause after a claim that was not answered.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(200);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Time after which claims without an answer are not repeated.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(600);
/// Time without work after which a job yields to others.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time after which a job yields to others: so none of them waits for as long as another one takes.
const TIME_SLICE: Duration = Duration::from_secs(15);

/// A job, and what its worker needs.
#[derive(Debug, Clone)]
pub(super) struct JobTask {
    pub(super) state: Arc<AppState>,
    pub(super) origins: Origins,
    pub(super) job: JobId,
}

/// Works on one job.
struct JobWorker {
    task: JobTask,
    leases: JoinSet<LeaseOutcome>,
    /// The chunks of the lease that was claimed last.
    last_span: Option<Arc<SpanQueue>>,
    file: Option<FileId>,
    next_claim: Instant,
    started_at: Instant,
    last_lease_at: Instant,
    last_answer_at: Instant,
    pause: Duration,
}

/// Reason why the work on a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobOutcome {
    /// The job yielded to others, and may have more work.
    Yielded,
    /// The job has no more work for this server.
    NoMoreWork,
}

/// Works on a job until it has no more work, until it yields to others, or until `stop`.
pub(super) async fn work_on(task: JobTask, stop: CancellationToken) -> JobOutcome {
    let now = Instant::now();
    let (state, job) = (task.state.clone(), task.job);
    let mut worker = JobWorker {
        task,
        leases: JoinSet::new(),
        last_span: None,
        file: None,
        next_claim: now,
        started_at: now,
        last_lease_at: now,
        last_answer_at: now,
        pause: MIN_RETRY_PAUSE,
    };
    let outcome = tokio::select! {
        outcome = worker.run() => outcome,
        () = stop.cancelled() => JobOutcome::NoMoreWork,
    };
    worker.leases.shutdown().await;
    if let Some(file) = worker.file.filter(|_| outcome == JobOutcome::NoMoreWork) {
        tracing::info!(%job, %file, "Job {job} has no more spans to fetch");
        // The file goes when an event says so; one that was missed is made up for by reconciliation.
        if let Err(error) = state.db.question_file(file).await {
            tracing::error!(%file, %error, "File {file} cannot be queued for reconciliation");
        }
        state.open_questions.notify_one();
    }
    outcome
}

impl JobWorker {
    async fn run(&mut self) -> JobOutcome {
        loop {
            if self.leases.is_empty() && self.should_yield() {
                return JobOutcome::Yielded;
            }
            if self.may_claim() && self.next_claim <= Instant::now() && !self.claim().await {
                return JobOutcome::NoMoreWork;
            }
            let (claims, span) = (self.may_claim(), self.last_span.clone());
            let low = async {
                match span {
                    Some(span) if !claims => span.low().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.leases.join_next() => match ended {
                    Ok(LeaseOutcome::JobOver) => return JobOutcome::NoMoreWork,
                    Ok(LeaseOutcome::Failed) | Err(_) => self.next_claim = Instant::now() + FAILURE_PAUSE,
                    Ok(LeaseOutcome::Finished | LeaseOutcome::Stale) => {}
                },
                () = low => {}
                () = sleep_until(self.next_claim), if claims => {}
            }
        }
    }

    fn may_claim(&self) -> bool {
        if self.should_yield() {
            return false;
        }
        let low = self.last_span.as_ref().is_none_or(|span| span.is_low());
        self.leases.is_empty() || (self.leases.len() < MAX_LEASES && low)
    }

    /// Claims a span; false when the job has no more work for this server.
    async fn claim(&mut self) -> bool {
        let now = Instant::now();
        if self.task.state.blobs.volume().state() != VolumeState::Healthy || *self.task.state.identity_conflict.borrow()
        {
            // Hints come again; by then the volume may be healthy.
            self.next_claim = now + MAX_CLAIM_PAUSE;
            return !self.leases.is_empty();
        }
        let held = match self.held().await {
            Ok(held) => held,
            Err(error) => {
                LOOKUP_FAULTS.failed(error);
                None
            }
        };
        match self.task.state.info.claim_lease(self.task.job, &LeaseClaim { held }).await {
            Ok(claimed) => {
                (self.last_answer_at, self.pause) = (now, MIN_RETRY_PAUSE);
                match claimed.lease {
                    Some(lease) => self.begin(lease).await,
                    None => {
                        let again =
                            Duration::from_millis(claimed.again_ms.into()).clamp(MIN_CLAIM_PAUSE, MAX_CLAIM_PAUSE);
                        self.next_claim = Instant::now() + again;
                        return !(self.leases.is_empty() && self.yields_while_idle());
                    }
                }
                true
            }
            Err(error) if error.http_status().is_some_and(is_job_over) => false,
            Err(error) => {
                tracing::debug!(job = %self.task.job, %error, "A span of job {} could not be claimed; trying again", self.task.job);
                self.next_claim = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(MAX_RETRY_PAUSE);
                !self.leases.is_empty() || self.last_answer_at.elapsed() < CLAIM_TIMEOUT
            }
        }
    }

    /// Returns the stored chunks of the job's file; `None` while a lease is worked on, as chunks may be reported at the same time.
    async fn held(&self) -> Result<Option<ChunkSet>, BlobError> {
        if !self.leases.is_empty() {
            return Ok(None);
        }
        let Some(file) = self.task.state.db.file_of_job(self.task.job).await? else { return Ok(Some(ChunkSet::new())) };
        let blob = self.task.state.blobs.find(file).await?;
        Ok(Some(blob.map_or_else(ChunkSet::new, |blob| blob.progress().0)))
    }

    /// Returns true if the time slice is over and another job waits.
    fn should_yield(&self) -> bool {
        self.started_at.elapsed() > TIME_SLICE && self.task.state.job_hints.has_other_than(self.task.job)
    }

    /// Returns true if this job had no work for long enough and another job waits.
    fn yields_while_idle(&self) -> bool {
        self.last_lease_at.elapsed() > IDLE_TIMEOUT && self.task.state.job_hints.has_other_than(self.task.job)
    }

    async fn begin(&mut self, lease: Lease) {
        if self.file != Some(lease.file) {
            tracing::info!(job = %self.task.job, file = %lease.file, url = %lease.url, size = lease.size, "Fetching spans of {}", lease.url);
            self.file = Some(lease.file);
        }
        let (started, span) = oneshot::channel();
        let JobTask { state, origins, job } = self.task.clone();
        self.leases.spawn(Box::pin(work_off(LeaseTask { state, origins, job, lease }, started)));
        // None when it could not be begun; then it ends at once.
        self.last_span = span.await.ok();
        self.last_lease_at = Instant::now();
        self.next_claim = self.last_lease_at;
    }
}
