//! Requesters: joining, progress, leaving, and being absent.

use std::time::Duration;

use wire::{
    ChunkSet, Digest,
    job::{JobReason, JobState},
};

use super::Job;
use crate::jobs::model::{
    moment::Moment,
    record::RequesterKey,
    requesters::{Progress, TooManyRequesters},
};

impl Job {
    /// Adds a requester, for the first time or again.
    ///
    /// # Errors
    /// [`TooManyRequesters`] when every one that is remembered of the account is present.
    pub(crate) fn join(&mut self, key: RequesterKey, keep: bool, now: Moment) -> Result<(), TooManyRequesters> {
        self.requesters.join(key, now.at)?;
        if keep && !self.record.keep {
            self.update_record(|record| record.keep = true);
        }
        self.refresh_wanted(now.at);
        self.update_state(now);
        Ok(())
    }

    /// Returns true if a requester may take part by its stream or its progress alone: it asked before and did not leave, its
    /// account asks for the job, or it is `entitled` otherwise.
    pub(crate) fn may_take_part(&self, key: RequesterKey, entitled: bool) -> bool {
        if self.requesters.contains(key) {
            return !self.requesters.has_left(key);
        }
        entitled || self.requesters.has_account(key.user)
    }

    /// Adds a requester that may take part, unless it is known or the job is over.
    ///
    /// # Errors
    /// See [`Self::join`].
    pub(crate) fn take_part(&mut self, key: RequesterKey, now: Moment) -> Result<(), TooManyRequesters> {
        if self.requesters.contains(key) || self.record.state.is_dead() {
            return Ok(());
        }
        self.join(key, false, now)
    }

    /// Returns true if an account wants the job now, or has it kept.
    pub(crate) fn counts_for_account(&self, user: i64) -> bool {
        self.requesters.counts_for_account(user, self.record.keep)
    }

    /// Renews the lease of a requester.
    pub(crate) fn renew_requester(&mut self, key: RequesterKey, now: Moment) {
        if !self.record.state.is_dead() && self.requesters.renew(key, now.at) {
            self.refresh_wanted(now.at);
            self.update_state(now);
        }
    }

    /// Takes in which chunks a requester has, and the SHA-256 of the whole once it computed it.
    pub(crate) fn progress(&mut self, key: RequesterKey, chunks: ChunkSet, sha256: Option<Digest>, now: Moment) {
        self.renew_requester(key, now);
        match self.requesters.set_chunks(key, chunks) {
            Progress::Unknown => return,
            Progress::FirstOrLost => self.refresh_wanted(now.at),
            // More chunks at a requester never make more to fetch; they may make less of what is wanted again.
            Progress::Grown if self.wants_known_chunk() => self.refresh_wanted(now.at),
            Progress::Grown => {}
        }
        let expected = self.record.expected_sha256();
        if sha256.is_some() && expected.is_some() && sha256 != expected {
            self.start_full_verification(now);
        }
        self.update_state(now);
    }

    /// Returns true if a chunk is wanted whose digest is known: progress of requesters may end that.
    fn wants_known_chunk(&self) -> bool {
        let mut wanted = self.chunks.wanted().iter().flatten();
        wanted.any(|n| self.chunks.get(n).is_some_and(|chunk| chunk.digest.is_some()))
    }

    /// Withdraws the request of one requester. The last one to leave ends the job, kept or not.
    pub(crate) fn leave(&mut self, key: RequesterKey, now: Moment) {
        self.leave_each(vec![key], now);
    }

    /// Withdraws the requests of all requesters of an account.
    pub(crate) fn leave_account(&mut self, user: i64, now: Moment) {
        self.leave_each(self.requesters.keys_of_account(user), now);
    }

    fn leave_each(&mut self, keys: Vec<RequesterKey>, now: Moment) {
        if !self.requesters.leave(keys) {
            return;
        }
        let present = self.requesters.present_count() > 0;
        let unwanted = if self.record.keep { self.requesters.all_left() } else { !present };
        if unwanted {
            self.finish(JobState::Stopped, JobReason::Unwanted, now);
        }
        self.refresh_wanted(now.at);
        self.update_state(now);
    }

    /// Marks requesters absent that were not seen for `grace`; a job that is not kept ends with the last one.
    pub(super) fn expire_requesters(&mut self, grace: Duration, now: Moment) {
        if self.record.state == JobState::Scheduled || !self.requesters.expire(grace, now.at) {
            return;
        }
        if self.requesters.present_count() == 0 && !self.record.keep {
            self.finish(JobState::Stopped, JobReason::Unwanted, now);
        }
        self.refresh_wanted(now.at);
        self.update_state(now);
    }
}
