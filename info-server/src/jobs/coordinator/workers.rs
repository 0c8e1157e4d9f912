//! Claims and reports of workers.

use std::time::Duration;

use wire::{
    ChunkSet, JobId, ServerId,
    job::{JobReason, Lease as LeaseInfo, LeaseOffer, LeaseReport, Span},
};

use super::Coordinator;
use crate::jobs::{
    model::{
        job::{Job, kept_result::ReplicaDigests, reports::ReportOutcome},
        lease_table::lease_seconds,
        moment::Moment,
        worker_table::LiveServer,
    },
    origin_budget::Refusal,
    scheduler::{self, GrantBounds},
};

/// The shortest and the longest time until a worker is to claim again, in milliseconds.
const MIN_CLAIM_INTERVAL_MS: u32 = 200;
const MAX_CLAIM_INTERVAL_MS: u32 = 1000;

/// A worker's claim.
#[derive(Debug, Clone)]
pub(crate) struct WorkerClaim {
    pub(crate) server: ServerId,
    pub(crate) live: LiveServer,
    /// The chunks that it holds, if it reports them.
    pub(crate) held: Option<ChunkSet>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ClaimOutcome {
    /// A lease, or nothing at the moment.
    Offer(Box<LeaseOffer>),
    /// End of all work, with its reason.
    JobOver(Option<JobReason>),
    /// The servers of the zone may not work on the job.
    NotAdmitted,
}

/// A lease, by its job, its worker and its fence.
#[derive(Debug, Clone)]
pub(crate) struct LeaseKey {
    pub(crate) job: JobId,
    pub(crate) server: ServerId,
    pub(crate) fence: u64,
}

impl Coordinator {
    /// Grants a worker a lease, if there is work for it; none if there is no such job.
    pub(crate) fn claim(&mut self, id: JobId, claim: &WorkerClaim, now: Moment) -> Option<ClaimOutcome> {
        let WorkerClaim { server, live, held } = claim;
        let job = self.jobs.get_mut(&id)?;
        if !job.admits(&live.zone) {
            return Some(ClaimOutcome::NotAdmitted);
        }
        job.note_inventory(server, live.instance, held.as_ref(), now);
        if !job.has_work() {
            return Some(ClaimOutcome::JobOver(job.record().reason));
        }
        let Some(worker) = job.admit_worker(server, live, now) else {
            return Some(ClaimOutcome::JobOver(Some(JobReason::WorkersFailed)));
        };
        // Both the origin of the URL and the one that serves the content are to be spared.
        let origins = job.record().origins();
        let free = origins.iter().map(|origin| self.free_connections(origin, now)).min().unwrap_or(0);
        let pause = origins.iter().filter_map(|origin| self.origins.remaining_pause(origin, now.at)).max();
        let job = self.jobs.get_mut(&id)?;
        let bounds = GrantBounds { connections: free, stuck_after: self.limits.stuck_after };
        let lease = scheduler::claim(job, worker, bounds, now).and_then(|fence| lease_info(job, fence));
        let again_ms =
            pause.map_or(MIN_CLAIM_INTERVAL_MS, |pause| u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
        let again_ms = again_ms.clamp(MIN_CLAIM_INTERVAL_MS, MAX_CLAIM_INTERVAL_MS);
        Some(ClaimOutcome::Offer(Box::new(LeaseOffer { lease, again_ms })))
    }

    /// Returns the connections at an origin that no live lease uses.
    fn free_connections(&self, origin: &str, now: Moment) -> u32 {
        self.origins.connections(origin, now.at).saturating_sub(self.used_connections(origin))
    }

    /// Returns the connections at an origin that live leases use.
    fn used_connections(&self, origin: &str) -> u32 {
        let at_origin = |job: &&Job| !job.leases().is_empty() && job.record().origins().iter().any(|of| of == origin);
        self.jobs().filter(at_origin).map(|job| job.leases().connections()).sum()
    }

    /// Takes in a worker's report on a lease; none if there is no such job.
    pub(crate) fn report(&mut self, lease: &LeaseKey, report: &LeaseReport, now: Moment) -> Option<ReportOutcome> {
        let job = self.jobs.get_mut(&lease.job)?;
        if !job.has_work() {
            return Some(ReportOutcome::JobOver(job.record().reason));
        }
        let Some(worker) = job.workers().find(&lease.server) else { return Some(ReportOutcome::Stale) };
        let (outcome, new_bytes) = job.report(worker, lease.fence, report, now);
        // A report does not name the server that refused: the origin of the URL is to blame, not one that a redirect names.
        let origin = job.record().url.origin();
        self.counters.origin_bytes = self.counters.origin_bytes.saturating_add(new_bytes);
        match (&outcome, &report.failed) {
            (ReportOutcome::Stale, _) => self.counters.stale_reports += 1,
            (_, Some(failure)) if failure.reason == JobReason::Busy => {
                let retry_after = failure.retry_after_s.map(|seconds| Duration::from_secs(seconds.into()));
                let refusal = Refusal { retry_after, others: self.used_connections(&origin) };
                self.origins.note_refusal(&origin, refusal, now.at);
            }
            _ if !report.chunks.is_empty() => self.origins.note_success(&origin, now.at),
            _ => {}
        }
        Some(outcome)
    }

    /// Takes in the digests of a holder that read the whole file back.
    pub(crate) fn verify_replica(&mut self, id: JobId, replica: ReplicaDigests, now: Moment) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.verify_replica(replica, now);
        }
    }
}

/// Returns a lease as its worker receives it.
fn lease_info(job: &Job, fence: u64) -> Option<LeaseInfo> {
    let lease = job.leases().get(fence)?;
    let content = job.record().content.as_ref()?;
    Some(LeaseInfo {
        fence,
        span: Span::try_from([lease.granted.start, lease.end]).ok()?,
        purpose: lease.purpose,
        file: content.file,
        size: content.size,
        chunk_size: content.chunk_size,
        url: job.record().url.clone(),
        validator: content.validator.clone(),
        connections: lease.connections,
        lease_s: lease_seconds(),
    })
}
