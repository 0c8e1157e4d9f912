//! The start of a scheduled job, and what a probe of the origin comes to.

use std::time::Duration;

use wire::job::{JobReason, JobState};

use super::Job;
use crate::jobs::model::{effect::Effect, moment::Moment, record::StartRetry, requesters::Requesters};

impl Job {
    /// Returns true if the origin of a scheduled job is to be probed now.
    pub(crate) fn is_start_due(&self, now: Moment) -> bool {
        let paused = self.record.start_retry.is_some_and(|retry| now.wall < retry.next_attempt);
        self.record.start_at <= now.wall && !self.origin.probing && !paused
    }

    pub(super) fn request_start(&mut self, now: Moment) {
        self.origin.probing = true;
        self.timers.note_start(now.at);
        self.add_effect(Effect::ProbeOrigin);
    }

    /// Notes that the origin was probed, whatever came of it.
    pub(crate) fn note_probed(&mut self) {
        self.origin.probing = false;
        if self.record.state != JobState::Scheduled {
            self.origin.change_suspected = false;
        }
    }

    /// Takes in that the origin of a scheduled job could not be probed: plans another attempt, or ends the job.
    pub(crate) fn retry_start(&mut self, reason: JobReason, retry_after: Option<Duration>, now: Moment) {
        let Some(retry) = StartRetry::after(self.record.start_retry, reason, retry_after, now.wall) else {
            self.finish(JobState::Failed, reason, now);
            return;
        };
        let (id, attempts, next) = (self.id(), retry.attempts, retry.next_attempt);
        tracing::info!(job = %id, attempts, ?reason, %next, "Job {id} cannot start yet: next attempt at {next}");
        self.update_record(|record| record.start_retry = Some(retry));
    }

    /// Takes the requesters out, for the job that begins in place of this one.
    pub(crate) fn hand_over_requesters(&mut self, now: Moment) -> Requesters {
        self.requesters.hand_over(now.at)
    }

    /// Returns the digests of all chunks that are known.
    pub(crate) fn known_digests(&self) -> Vec<Option<wire::Digest>> {
        self.chunks.iter().map(|(_, chunk)| chunk.digest).collect()
    }
}
