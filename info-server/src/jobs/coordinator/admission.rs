//! The admission of requests: joining a job that exists, or creating one.

use wire::{
    JobId,
    job::{Checked, JobReason, JobState, NewJob},
};

use super::{Coordinator, MAX_OPEN_JOBS, is_open_or_scheduled};
use crate::{
    accounts::audit::AuditEntry,
    jobs::{
        model::{
            effect::Effect,
            job::Job,
            moment::Moment,
            record::{JobRecord, RequesterKey, RetentionStage},
            requesters::TooManyRequesters,
        },
        origin_probe::ProbedContent,
    },
};

/// The refusal of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The account takes part in as many jobs as it may.
    Account,
    /// Limit on all jobs of the server.
    Server,
    /// The account has as many requesters at this job as it may.
    Requesters,
}

impl From<TooManyRequesters> for NoRoom {
    fn from(TooManyRequesters: TooManyRequesters) -> Self {
        Self::Requesters
    }
}

/// A request for a URL.
#[derive(Debug, Clone)]
pub(crate) struct JobRequest {
    pub(crate) new: NewJob,
    pub(crate) requester: RequesterKey,
    /// The seed of the job's random samples.
    pub(crate) seed: u64,
}

/// The job that a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    Joined(JobId),
    Created(JobId),
}

impl Coordinator {
    /// Returns the job that a request for this joins.
    fn find_joinable(&self, new: &NewJob, now: Moment) -> Option<JobId> {
        let later = new.start_at.is_some_and(|start_at| start_at > now.wall);
        let fits = |job: &&Job| {
            let record = job.record();
            let in_time = match record.state {
                JobState::Scheduled => later && new.start_at == Some(record.start_at),
                JobState::Running | JobState::Checking | JobState::Done => !later,
                JobState::Direct | JobState::Failed | JobState::Stopped => false,
            };
            let sha256 = record.computed_sha256.or(record.expected_sha256());
            in_time
                && record.url == new.url
                && (new.sha256.is_none() || new.sha256 == sha256)
                && (new.zones.is_none() || new.zones == record.zones)
        };
        self.jobs().rev().find(fits).map(Job::id)
    }

    /// Checks that an account may take part in one more job.
    fn check_account_room(&self, user: i64) -> Result<(), NoRoom> {
        let own = self.jobs().filter(|job| is_open_or_scheduled(job) && job.counts_for_account(user));
        if own.count() >= self.limits.jobs_per_account { Err(NoRoom::Account) } else { Ok(()) }
    }

    /// Checks that an account may take part in this job. It needs no further room for a job that counts for it already.
    pub(super) fn check_room_at(&self, id: JobId, user: i64) -> Result<(), NoRoom> {
        let needs_room = self.job(id).is_some_and(|job| is_open_or_scheduled(job) && !job.counts_for_account(user));
        if needs_room { self.check_account_room(user) } else { Ok(()) }
    }

    /// Joins the job that a request fits, if there is one and the account has room.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) fn join(&mut self, request: &JobRequest, now: Moment) -> Result<Option<JobId>, NoRoom> {
        let Some(id) = self.find_joinable(&request.new, now) else { return Ok(None) };
        self.check_room_at(id, request.requester.user)?;
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(None) };
        job.join(request.requester, request.new.keep, now)?;
        Ok(Some(id))
    }

    /// Joins the job that a request fits, or creates one and records that; `content` was found by a probe.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) fn join_or_create(
        &mut self,
        request: JobRequest,
        content: Option<ProbedContent>,
        entry: AuditEntry,
        now: Moment,
    ) -> Result<Admitted, NoRoom> {
        if let Some(id) = self.join(&request, now)? {
            return Ok(Admitted::Joined(id));
        }
        self.check_account_room(request.requester.user)?;
        if self.open_count() >= MAX_OPEN_JOBS {
            return Err(NoRoom::Server);
        }
        let new = &request.new;
        let detail = serde_json::json!({ "url": new.url.to_string(), "keep": new.keep, "start_at": new.start_at });
        let id = self.create(request, content, now);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.add_effect(Effect::Audit(entry.about(id).with(detail)));
        }
        Ok(Admitted::Created(id))
    }

    /// Creates a job; it is scheduled while no `content` was found.
    pub(crate) fn create(&mut self, request: JobRequest, content: Option<ProbedContent>, now: Moment) -> JobId {
        let JobRequest { new, requester, seed } = request;
        let id = JobId::new();
        let record = JobRecord {
            id,
            name_given: new.name.is_some(),
            name: new.name.unwrap_or_else(|| new.url.file_name()),
            url: new.url,
            state: JobState::Scheduled,
            reason: None,
            content: None,
            previous_files: Vec::new(),
            expected: new.sha256.map(|sha256| (sha256, Checked::Sha256)),
            computed_sha256: None,
            generation: 0,
            connections: new.connections.unwrap_or(1),
            start_at: new.start_at.unwrap_or(now.wall).max(now.wall),
            created_at: now.wall,
            ended_at: None,
            keep: new.keep,
            expires_at: None,
            zones: new.zones,
            owner: requester.user,
            fence: 0,
            duplicate_bytes: 0,
            retention: RetentionStage::Unassigned,
            fully_verified: false,
            full_verification: false,
            start_retry: None,
        };
        let mut job = Job::new(record, seed, now);
        // The first requester always has room.
        let _ = job.join(requester, false, now);
        self.jobs.insert(id, job);
        if let Some(content) = content {
            self.begin(id, content, seed, now);
        }
        self.forget_oldest();
        id
    }

    /// Removes a kept result, for a deletion that is recorded with it.
    pub(crate) fn remove_result(&mut self, id: JobId, entry: AuditEntry, now: Moment) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.finish(JobState::Stopped, JobReason::Unwanted, now);
            job.add_effect(Effect::Audit(entry));
        }
    }
}
