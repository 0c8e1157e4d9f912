//! The way of requests to the task that owns all jobs.
//!
//! Each method hands in one decision and returns its result once the decision is stored on disk: a caller never sees what a crash
//! could undo.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use wire::{
    JobId, OriginUrl,
    job::{JobInfo, LeaseReport, RequesterProgress},
};

use super::{
    coordinator::{
        Coordinator, JobCounters,
        admission::{Admitted, JobRequest, NoRoom},
        queries::{EventsQuery, JobEvents, JobViewer, PageQuery},
        requests::{Caller, RequesterRefusal},
        workers::{ClaimOutcome, LeaseKey, WorkerClaim},
    },
    limiter::{Limiter, Permit},
    model::{
        job::{file_view::FileView, kept_result::ReplicaDigests, reports::ReportOutcome, view::ServerZones},
        moment::Moment,
    },
    origin_probe::{OriginProbe, ProbeOutcome, ProbedContent},
};
use crate::{
    accounts::audit::AuditEntry,
    db::failures::StorageFault,
    error::{Error, Result, StorageFailure},
};

/// Requests that may wait for a decision; further ones are refused until there is room.
const MAX_QUEUED_DECISIONS: usize = 4096;
/// Longest time that a caller waits for its decision.
const DECISION_TIMEOUT: Duration = Duration::from_secs(10);
/// Event streams open at once.
const MAX_EVENT_STREAMS: usize = 1024;
const MAX_EVENT_STREAMS_PER_ACCOUNT: usize = 64;

const OVERLOADED: Error =
    Error::Busy { status: 503, retry_after: 1, detail: "too many decisions about jobs are waiting" };

/// A decision; it returns the answer to its caller, to be sent once the decision is on disk.
pub(super) type Decision = Box<dyn FnOnce(&mut Coordinator, Moment) -> PendingAnswer + Send>;
/// Sends the answer to the caller, or the failure for which its decision was not stored.
pub(super) type PendingAnswer = Box<dyn FnOnce(std::result::Result<(), NotStored>) + Send>;

/// Failure to store decisions.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotStored {
    /// The database's fault, if it is one of storage.
    pub(super) fault: Option<StorageFault>,
}

/// The numbers that the metrics show.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobNumbers {
    /// Jobs by state.
    pub(crate) states: BTreeMap<&'static str, i64>,
    pub(crate) leases: i64,
    pub(crate) counters: JobCounters,
}

/// The way to the task that owns all jobs.
#[derive(Debug)]
pub(crate) struct JobsHandle {
    decisions: mpsc::Sender<Decision>,
    /// Ascends with every commit.
    commits: watch::Sender<u64>,
    origin_probe: OriginProbe,
    numbers: Mutex<JobNumbers>,
    event_streams: Limiter,
}

/// The receiving end, for the task that owns all jobs.
pub(crate) struct Inbox(pub(super) mpsc::Receiver<Decision>);

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

/// Makes both ends.
pub(crate) fn channel(origin_probe: OriginProbe) -> (JobsHandle, Inbox) {
    let (decisions, inbox) = mpsc::channel(MAX_QUEUED_DECISIONS);
    let handle = JobsHandle {
        decisions,
        commits: watch::Sender::new(0),
        origin_probe,
        numbers: Mutex::default(),
        event_streams: Limiter::new(MAX_EVENT_STREAMS, MAX_EVENT_STREAMS_PER_ACCOUNT),
    };
    (handle, Inbox(inbox))
}

impl JobsHandle {
    /// Hands in a decision; returns its result once it is on disk.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait or the disk does not keep up.
    async fn decide<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Coordinator, Moment) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let decision: Decision = Box::new(move |coordinator, now| {
            let value = decide(coordinator, now);
            // A caller that timed out does not receive it.
            Box::new(move |stored| drop(answer.send(stored.map(|()| value))))
        });
        self.decisions.try_send(decision).map_err(|_| OVERLOADED)?;
        match tokio::time::timeout(DECISION_TIMEOUT, answered).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(NotStored { fault: Some(fault) }))) => Err(Error::Storage(StorageFailure { fault, cause: None })),
            Ok(Ok(Err(NotStored { fault: None })) | Err(_)) => {
                Err(anyhow::anyhow!("a decision about a job could not be stored").into())
            }
            Err(_) => Err(OVERLOADED),
        }
    }
}

/// Requests of users. Each fails with [`Error::Busy`] when too many decisions wait or the disk does not keep up.
impl JobsHandle {
    /// Joins the job that a request fits, if there is one.
    pub(crate) async fn join(&self, request: JobRequest) -> Result<std::result::Result<Option<JobId>, NoRoom>> {
        self.decide(move |coordinator, now| coordinator.join(&request, now)).await
    }

    /// Joins the job that a request fits, or creates one; `entry` records a creation.
    pub(crate) async fn join_or_create(
        &self,
        request: JobRequest,
        content: Option<ProbedContent>,
        entry: AuditEntry,
    ) -> Result<std::result::Result<Admitted, NoRoom>> {
        self.decide(move |coordinator, now| coordinator.join_or_create(request, content, entry, now)).await
    }

    /// Withdraws a request; `entry` records it.
    pub(crate) async fn leave(
        &self,
        job: JobId,
        caller: Caller,
        entry: AuditEntry,
    ) -> Result<std::result::Result<(), RequesterRefusal>> {
        self.decide(move |coordinator, now| coordinator.leave(job, caller, entry, now)).await
    }

    /// Takes in what a requester has of the file.
    pub(crate) async fn progress(
        &self,
        job: JobId,
        caller: Caller,
        progress: RequesterProgress,
    ) -> Result<std::result::Result<(), RequesterRefusal>> {
        self.decide(move |coordinator, now| coordinator.progress(job, caller, progress, now)).await
    }

    /// Opens a stream of events for a requester.
    pub(crate) async fn subscribe(
        &self,
        job: JobId,
        caller: Caller,
    ) -> Result<std::result::Result<(), RequesterRefusal>> {
        self.decide(move |coordinator, now| coordinator.subscribe(job, caller, now)).await
    }

    /// Returns what is new for a stream of events; none when it ends.
    pub(crate) async fn events(&self, job: JobId, query: EventsQuery, zones: ServerZones) -> Result<Option<JobEvents>> {
        self.decide(move |coordinator, now| coordinator.events(job, query, &zones, now)).await
    }

    /// Returns the view of a job; none if there is no such job for this viewer.
    pub(crate) async fn view(&self, job: JobId, viewer: JobViewer, zones: ServerZones) -> Result<Option<JobInfo>> {
        self.decide(move |coordinator, now| coordinator.view(job, viewer, &zones, now)).await
    }

    /// Returns one page of jobs, newest first.
    pub(crate) async fn page(&self, query: PageQuery, zones: ServerZones) -> Result<Vec<JobInfo>> {
        self.decide(move |coordinator, now| coordinator.page(query, &zones, now)).await
    }

    /// Removes a kept result; `entry` records the deletion of its file.
    pub(crate) async fn remove_result(&self, job: JobId, entry: AuditEntry) -> Result<()> {
        self.decide(move |coordinator, now| coordinator.remove_result(job, entry, now)).await
    }

    /// Returns a permit for one more stream of events, if the account may open one.
    pub(crate) fn event_stream_permit(&self, user: i64) -> Option<Permit> {
        self.event_streams.try_acquire(user)
    }

    /// Returns a receiver that changes with every commit.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }
}

/// Requests of file servers, and about files. Each fails with [`Error::Busy`] when too many decisions wait or the disk does not
/// keep up.
impl JobsHandle {
    /// Claims a lease; none if there is no such job.
    pub(crate) async fn claim_lease(&self, job: JobId, claim: WorkerClaim) -> Result<Option<ClaimOutcome>> {
        self.decide(move |coordinator, now| coordinator.claim(job, &claim, now)).await
    }

    /// Reports on a lease; none if there is no such job.
    pub(crate) async fn report_lease(&self, lease: LeaseKey, report: LeaseReport) -> Result<Option<ReportOutcome>> {
        self.decide(move |coordinator, now| coordinator.report(&lease, &report, now)).await
    }

    /// Reports the digests of a holder that read the whole file back.
    pub(crate) async fn verify_replica(&self, job: JobId, replica: ReplicaDigests) -> Result<()> {
        self.decide(move |coordinator, now| coordinator.verify_replica(job, replica, now)).await
    }

    /// Returns the view of a job's file; none once the file is published, and when the job is over.
    pub(crate) async fn file_view(&self, job: JobId) -> Result<Option<FileView>> {
        self.decide(move |coordinator, _| coordinator.file_view(job)).await
    }
}

/// Origins and numbers.
impl JobsHandle {
    /// Probes an origin for an account; `digest_known` is set if the requester gave a SHA-256.
    pub(crate) async fn probe_origin(&self, user: i64, url: &OriginUrl, digest_known: bool) -> ProbeOutcome {
        self.origin_probe.probe(user, url, digest_known).await
    }

    pub(super) const fn origin_probe(&self) -> &OriginProbe {
        &self.origin_probe
    }

    pub(super) fn note_commit(&self) {
        self.commits.send_modify(|commits| *commits += 1);
    }

    /// Returns the numbers that the metrics show.
    pub(crate) fn numbers(&self) -> JobNumbers {
        self.lock_numbers().clone()
    }

    pub(super) fn set_numbers(&self, numbers: JobNumbers) {
        *self.lock_numbers() = numbers;
    }

    fn lock_numbers(&self) -> MutexGuard<'_, JobNumbers> {
        // A panic while it was held cannot leave it half changed: every change is one value.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
