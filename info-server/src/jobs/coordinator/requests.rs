//! Requests of those that take part in a job: progress, streams, leaving.

use wire::{
    JobId,
    job::{JobReason, JobState, RequesterProgress},
};

use super::{Coordinator, admission::NoRoom, queries::JobViewer};
use crate::{
    accounts::audit::AuditEntry,
    jobs::model::{effect::Effect, moment::Moment, record::RequesterKey},
};

/// The caller of a request about a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) requester: RequesterKey,
    pub(crate) viewer: JobViewer,
}

/// The refusal of a requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequesterRefusal {
    /// No such job is visible to the caller.
    NotFound,
    /// The requester left the job.
    Left,
    /// Refusal: no room for the requester.
    NoRoom(NoRoom),
    /// The job is over, for this reason.
    JobOver(Option<JobReason>),
    /// The progress names a chunk that the job does not have.
    NoSuchChunk {
        /// The number of chunks that it has.
        count: u32,
    },
}

impl From<NoRoom> for RequesterRefusal {
    fn from(reason: NoRoom) -> Self {
        Self::NoRoom(reason)
    }
}

impl Caller {
    /// Returns true if a process of an admin may take part though its account did not ask for the job.
    fn is_entitled(self) -> bool {
        self.viewer == JobViewer::Admin && self.requester.process.is_some()
    }
}

impl Coordinator {
    /// Opens a stream: its requester takes part from then on.
    ///
    /// # Errors
    /// [`RequesterRefusal`].
    pub(crate) fn subscribe(&mut self, id: JobId, caller: Caller, now: Moment) -> Result<(), RequesterRefusal> {
        self.jobs.get(&id).filter(|job| caller.viewer.may_see(job)).ok_or(RequesterRefusal::NotFound)?;
        let takes_part = self.take_part(id, caller, now)?;
        // A process that left must not take it that the job waits for it; a caller that names no process may look.
        if takes_part || caller.requester.process.is_none() { Ok(()) } else { Err(RequesterRefusal::Left) }
    }

    /// Lets a requester take part by its stream or its progress alone. An account that was absent needs room as one that joins does.
    /// Returns false if the requester left before, or has nothing to do with the job.
    fn take_part(&mut self, id: JobId, caller: Caller, now: Moment) -> Result<bool, RequesterRefusal> {
        let (key, entitled) = (caller.requester, caller.is_entitled());
        if !self.job(id).is_some_and(|job| job.may_take_part(key, entitled)) {
            return Ok(false);
        }
        self.check_room_at(id, key.user)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.take_part(key, now).map_err(NoRoom::from)?;
        }
        Ok(true)
    }

    /// Takes in what a requester has of the file, and renews its lease.
    ///
    /// # Errors
    /// [`RequesterRefusal`].
    pub(crate) fn progress(
        &mut self,
        id: JobId,
        caller: Caller,
        progress: RequesterProgress,
        now: Moment,
    ) -> Result<(), RequesterRefusal> {
        let (takes_part, key) = (self.take_part(id, caller, now)?, caller.requester);
        let job = self.jobs.get_mut(&id).ok_or(RequesterRefusal::NotFound)?;
        if !takes_part {
            let left = job.requesters().contains(key) && job.requesters().has_account(key.user);
            return Err(if left { RequesterRefusal::Left } else { RequesterRefusal::NotFound });
        }
        if job.state().is_dead() {
            return Err(RequesterRefusal::JobOver(job.record().reason));
        }
        let count = job.chunks().count();
        if progress.runs.iter().any(|run| run.end > count) {
            return Err(RequesterRefusal::NoSuchChunk { count });
        }
        job.progress(key, progress.runs, progress.sha256, now);
        Ok(())
    }

    /// Withdraws the request of a process, or of a whole account if the caller names no process. An admin whose account takes no
    /// part stops the job for everyone.
    ///
    /// # Errors
    /// [`RequesterRefusal`].
    pub(crate) fn leave(
        &mut self,
        id: JobId,
        caller: Caller,
        entry: AuditEntry,
        now: Moment,
    ) -> Result<(), RequesterRefusal> {
        let job = self.jobs.get_mut(&id).ok_or(RequesterRefusal::NotFound)?;
        let key = caller.requester;
        if key.process.is_some() {
            if !job.requesters().contains(key) {
                return Err(RequesterRefusal::NotFound);
            }
            if job.requesters().has_left(key) {
                return Err(RequesterRefusal::Left);
            }
            job.leave(key, now);
        } else if job.requesters().has_account(key.user) {
            job.leave_account(key.user, now);
        } else if caller.viewer == JobViewer::Admin {
            job.finish(JobState::Stopped, JobReason::Unwanted, now);
        } else {
            return Err(RequesterRefusal::NotFound);
        }
        job.add_effect(Effect::Audit(entry));
        Ok(())
    }
}
