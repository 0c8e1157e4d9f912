//! A kept result on its way into the catalogue.

use wire::{
    Digest,
    job::{JobReason, JobState},
};

use super::Job;
use crate::jobs::model::{effect::Effect, moment::Moment, record::RetentionStage, retention::Lifetimes};

/// The digests that a holder computed of the whole file, read from its own disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplicaDigests {
    /// The root over the digests of all chunks.
    pub(crate) root: Digest,
    pub(crate) sha256: Digest,
}

impl Job {
    /// Returns the digests of all chunks, once they are known and none is in conflict.
    fn digests(&self) -> Option<Vec<Digest>> {
        if self.verifier.has_conflicts() { None } else { self.chunks.digests() }
    }

    /// Takes in the digests of a holder of the whole file; a kept result is published when they are the expected ones.
    pub(crate) fn verify_replica(&mut self, replica: ReplicaDigests, now: Moment) {
        let ReplicaDigests { root, sha256 } = replica;
        let comparable = self.is_open() && !self.is_published();
        let digests = self.digests().filter(|digests| comparable && Digest::root_of(digests) == root);
        let Some(digests) = digests else { return };
        if self.record.expected_sha256().is_some_and(|expected| expected != sha256) {
            self.start_full_verification(now);
        } else if self.record.keep && self.record.state == JobState::Done {
            self.update_record(|record| {
                (record.computed_sha256, record.retention) = (Some(sha256), RetentionStage::Published);
            });
            self.retention.restart(now.at);
            self.add_effect(Effect::Publish { sha256, digests });
            self.refresh_wanted(now.at);
        }
    }

    /// Notes that the step of a kept result was committed.
    pub(crate) fn note_retention_stage(&mut self, stage: RetentionStage) {
        self.update_record(|record| record.retention = stage);
    }

    /// Starts the next step of a kept result when it is due, and ends the job when the result expires.
    pub(super) fn advance_kept_result(&mut self, lifetimes: &Lifetimes, now: Moment) {
        if self.record.state != JobState::Done {
            return;
        }
        if self.record.keep && self.record.expires_at.is_none() {
            let expires_at = now.wall.checked_add(lifetimes.kept_result).ok();
            self.update_record(|record| record.expires_at = expires_at);
        }
        if let Some(step) = self.retention.next_step(self.record.retention, self.record.keep, now.at) {
            self.add_effect(step);
        }
        if self.record.expires_at.is_some_and(|expires_at| expires_at <= now.wall) {
            self.finish(JobState::Stopped, JobReason::Unwanted, now);
        }
    }
}
