//! The effects of time on a job.

use std::time::Duration;

use wire::{
    ServerId,
    job::{JobReason, JobState},
};

use super::Job;
use crate::jobs::model::{effect::Effect, moment::Moment, retention::Lifetimes, worker_table::LiveServers};

/// A worker that claimed or reported this lately has room for the job.
const WORKER_HAS_ROOM: Duration = Duration::from_secs(60);

/// The surroundings of a job at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The file servers whose registration lease runs.
    pub(crate) live: &'a LiveServers,
    /// Set if workers have leases of other jobs.
    pub(crate) other_jobs_leased: bool,
    pub(crate) lifetimes: &'a Lifetimes,
}

impl Job {
    /// Takes in that time has passed.
    pub(crate) fn tick(&mut self, around: Surroundings<'_>, now: Moment) {
        match self.record.state {
            JobState::Scheduled if self.is_start_due(now) => self.request_start(now),
            JobState::Scheduled => {}
            JobState::Running | JobState::Checking | JobState::Done => self.tick_open(around, now),
            JobState::Direct | JobState::Failed | JobState::Stopped => {
                self.forget_when_old(around.lifetimes.ended_job, now);
            }
        }
    }

    fn tick_open(&mut self, around: Surroundings<'_>, now: Moment) {
        self.update_liveness(around.live, now);
        self.leases.end_expired(now.at);
        if !self.record.previous_files.is_empty() && self.timers.end_wait_for_requesters(now.at) {
            self.refresh_wanted(now.at);
            self.update_state(now);
        }
        self.expire_requesters(around.lifetimes.requester_grace, now);
        if self.is_open() {
            self.time_out_checks(now);
        }
        if self.is_open() {
            self.give_up_if_hopeless(around, now);
        }
        self.hint_workers(around.live, now);
        self.advance_kept_result(around.lifetimes, now);
    }

    fn update_liveness(&mut self, live: &LiveServers, now: Moment) {
        let changed = self.workers.update_liveness(live);
        for worker in &changed {
            if !self.workers.is_live(*worker) {
                self.leases.end_of_worker(*worker);
            }
            self.chunks.held_by(*worker).into_iter().for_each(|n| self.chunks.touch(n));
        }
        if !changed.is_empty() {
            self.refresh_wanted(now.at);
            self.update_state(now);
        }
    }

    /// Ends a job that no worker can finish.
    fn give_up_if_hopeless(&mut self, around: Surroundings<'_>, now: Moment) {
        if self.record.state != JobState::Running {
            self.timers.note_workers();
            return;
        }
        let is_excluded = |id: &&ServerId| self.workers.by_server(id).is_some_and(|worker| worker.excluded);
        let admitted = around.live.iter().filter(|(_, server)| self.admits(&server.zone)).map(|(id, _)| id);
        let (excluded, eligible): (Vec<_>, Vec<_>) = admitted.partition(is_excluded);
        if !eligible.is_empty() {
            self.timers.note_workers();
        } else if !excluded.is_empty() {
            self.finish(JobState::Failed, JobReason::WorkersFailed, now);
            return;
        } else if self.timers.note_no_workers(now.at) {
            self.finish(JobState::Failed, JobReason::NoWorkers, now);
            return;
        }
        // A job that no worker has room for yet, because of other jobs, is not stalled: its turn comes.
        let has_room = self.workers.iter().any(|(_, worker)| worker.was_seen_within(WORKER_HAS_ROOM, now.at));
        let queued = around.other_jobs_leased && !has_room;
        if self.timers.is_stalled(queued, now.at) && !self.chunks.wanted().is_empty() {
            let reason = self.origin.trouble.unwrap_or(JobReason::WorkersFailed);
            self.finish(JobState::Failed, reason, now);
        }
    }

    /// Sends a hint while there is work that a server could do and does not claim, and to workers that may have lost chunks.
    fn hint_workers(&mut self, live: &LiveServers, now: Moment) {
        let has_work = match self.record.state {
            JobState::Running => !self.chunks.wanted().is_empty() || self.verifier.has_conflicts(),
            JobState::Checking => true,
            _ => false,
        };
        let needs_hint = |id: &ServerId| {
            let worker = self.workers.by_server(id);
            worker.is_none_or(|worker| !worker.excluded && !worker.is_attentive(now.at))
        };
        let mut admitted = live.iter().filter(|(_, server)| self.admits(&server.zone));
        let any_needs_hint = admitted.any(|(id, _)| needs_hint(id));
        let hint = has_work && any_needs_hint || self.has_unconfirmed_holder(live);
        if hint && self.timers.is_hint_due(now.at) {
            self.timers.note_hint(now.at);
            self.add_effect(Effect::HintWorkers);
        }
    }

    fn forget_when_old(&mut self, kept_for: Duration, now: Moment) {
        let until = self.record.ended_at.and_then(|ended_at| ended_at.checked_add(kept_for).ok());
        if until.is_none_or(|until| until <= now.wall) {
            self.add_effect(Effect::Forget);
        }
    }
}
