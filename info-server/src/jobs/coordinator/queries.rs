//! Queries: the public views of jobs.

use std::ops::Bound;

use wire::{
    JobId,
    job::{FetchedChunk, JobInfo},
};

use super::Coordinator;
use crate::jobs::model::{
    job::{Job, file_view::FileView, view::ServerZones},
    moment::Moment,
    record::RequesterKey,
};

/// The jobs that a caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobViewer {
    /// All jobs.
    Admin,
    /// The jobs of this account.
    Account(i64),
}

/// One page of jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageQuery {
    pub(crate) viewer: JobViewer,
    /// The last job of the page before.
    pub(crate) before: Option<JobId>,
    pub(crate) limit: usize,
}

/// The state of an event stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventsQuery {
    pub(crate) viewer: JobViewer,
    pub(crate) requester: RequesterKey,
    /// The revision up to which chunks were sent.
    pub(crate) revision: u64,
    /// The generation to which those chunks belong.
    pub(crate) generation: u32,
}

/// The news for an event stream.
#[derive(Debug, Clone)]
pub(crate) struct JobEvents {
    pub(crate) info: JobInfo,
    pub(crate) revision: u64,
    /// The chunks that changed.
    pub(crate) chunks: Vec<FetchedChunk>,
}

impl JobViewer {
    pub(super) fn may_see(self, job: &Job) -> bool {
        match self {
            Self::Admin => true,
            Self::Account(user) => job.requesters().has_account(user),
        }
    }
}

impl Coordinator {
    /// Returns the view of a job; none if there is no such job for this viewer.
    pub(crate) fn view(&self, id: JobId, viewer: JobViewer, zones: &ServerZones, now: Moment) -> Option<JobInfo> {
        self.job(id).filter(|job| viewer.may_see(job)).map(|job| job.info(now.at, zones))
    }

    /// Returns one page of jobs, newest first.
    pub(crate) fn page(&self, query: PageQuery, zones: &ServerZones, now: Moment) -> Vec<JobInfo> {
        let upper = query.before.map_or(Bound::Unbounded, Bound::Excluded);
        let older = self.jobs.range((Bound::Unbounded, upper)).rev().map(|(_, job)| job);
        let seen = older.filter(|job| query.viewer.may_see(job));
        seen.take(query.limit).map(|job| job.info(now.at, zones)).collect()
    }

    /// Renews the lease of a stream's requester, and returns what is new; none when the job is forgotten or the requester left.
    pub(crate) fn events(
        &mut self,
        id: JobId,
        query: EventsQuery,
        zones: &ServerZones,
        now: Moment,
    ) -> Option<JobEvents> {
        let job = self.jobs.get_mut(&id).filter(|job| query.viewer.may_see(job))?;
        if query.requester.process.is_some() && job.requesters().has_left(query.requester) {
            return None;
        }
        job.renew_requester(query.requester, now);
        let after = if job.record().generation == query.generation { query.revision } else { 0 };
        let (info, revision) = (job.info(now.at, zones), job.chunks().revision());
        Some(JobEvents { info, revision, chunks: job.chunks_since(after) })
    }

    /// Returns the view of a job's file; none once the file is published, and when the job is over.
    pub(crate) fn file_view(&self, id: JobId) -> Option<FileView> {
        self.job(id)?.file_view()
    }
}
