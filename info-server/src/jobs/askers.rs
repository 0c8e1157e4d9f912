//! Those who want a job's result. Pure.
//!
//! An asker is one asking process of an account: the id that it chose tells it from the account's others, and means nothing with
//! another account. What the account may see is the matter of all of them: it takes part while one of them has not left.

use std::time::{Duration, Instant};

use wire::{
    AskerId, Digest, Runs,
    job::{JobState, Reason},
};

use super::job::{Job, Moment};

/// Askers that are remembered of one account and job. Whoever was not heard of longest makes room for a newcomer.
pub(crate) const MOST_OF_ACCOUNT: usize = 64;

/// Who asks: a process of an account, or the account by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) user: i64,
    pub(crate) asker: Option<AskerId>,
}

/// An account asks by as many processes as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

/// Somebody who asked.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// Whether they still want it.
    pub(crate) present: bool,
    /// Whether they took their wish back: it is remembered for when they ask again.
    pub(crate) left: bool,
    /// The chunks they have; none before they said so.
    pub(crate) runs: Option<Runs>,
    /// When they were last heard of.
    pub(crate) heard: Instant,
}

impl Job {
    /// Takes in that somebody wants it, for the first time or again.
    pub(crate) fn join(&mut self, who: Who, keep: bool, now: Moment) -> Result<(), Crowded> {
        self.make_room(who)?;
        let runs = self.askers.get(&who).filter(|asker| asker.present).and_then(|asker| asker.runs.clone());
        self.askers.insert(who, Asker { present: true, left: false, runs, heard: now.at });
        self.note_asker(who);
        if keep && !self.row.keep {
            self.change_row(|row| row.keep = true);
        }
        self.refresh_all(now.at);
        self.settle(now);
        Ok(())
    }

    /// Lets one take part by its stream or its word alone, if its account asks for the job, or it is `entitled` otherwise. False
    /// when it left before, or has nothing to do with it.
    pub(crate) fn take_part(&mut self, who: Who, entitled: bool, now: Moment) -> Result<bool, Crowded> {
        if let Some(asker) = self.askers.get(&who) {
            return Ok(!asker.left);
        }
        let entitled = entitled || self.is_asker(who.user);
        if entitled && !self.row.state.is_dead() {
            self.join(who, false, now)?;
        }
        Ok(entitled)
    }

    /// Keeps the memory of an account's askers within its bound.
    fn make_room(&mut self, who: Who) -> Result<(), Crowded> {
        if self.askers.contains_key(&who) || self.of_account(who.user).count() < MOST_OF_ACCOUNT {
            return Ok(());
        }
        let absent = self.of_account(who.user).filter(|(_, asker)| !asker.present);
        let oldest = absent.min_by_key(|(_, asker)| (!asker.left, asker.heard)).map(|(who, _)| *who);
        let oldest = oldest.ok_or(Crowded)?;
        self.askers.remove(&oldest);
        self.note_asker(oldest);
        Ok(())
    }

    fn of_account(&self, user: i64) -> impl Iterator<Item = (&Who, &Asker)> {
        let after = user.checked_add(1).map(|user| Who { user, asker: None });
        let from = Who { user, asker: None };
        self.askers.range(from..).take_while(move |(who, _)| after.is_none_or(|after| **who < after))
    }

    /// Whether an account ever asked for it and did not take that back.
    pub(crate) fn is_asker(&self, user: i64) -> bool {
        self.of_account(user).any(|(_, asker)| !asker.left)
    }

    /// Whether an account wants it now, or has it kept.
    pub(crate) fn holds(&self, user: i64) -> bool {
        self.of_account(user).any(|(_, asker)| asker.present || (self.row.keep && !asker.left))
    }

    /// Whether an account ever asked for it.
    pub(crate) fn knows(&self, user: i64) -> bool {
        self.of_account(user).next().is_some()
    }

    /// Whether one left, or was never there.
    pub(crate) fn has_left(&self, who: Who) -> bool {
        self.askers.get(&who).is_none_or(|asker| asker.left)
    }

    pub(crate) fn present(&self) -> usize {
        self.askers.values().filter(|asker| asker.present).count()
    }

    /// Renews an asker's lease.
    pub(crate) fn heard(&mut self, who: Who, now: Moment) {
        let over = self.row.state.is_dead();
        let Some(asker) = self.askers.get_mut(&who).filter(|asker| !asker.left && !over) else { return };
        asker.heard = now.at;
        if !asker.present {
            asker.present = true;
            self.note_asker(who);
            self.refresh_all(now.at);
            self.settle(now);
        }
    }

    /// Takes in what an asker has.
    pub(crate) fn progress(&mut self, who: Who, runs: Runs, sha256: Option<Digest>, now: Moment) {
        self.heard(who, now);
        let Some(asker) = self.askers.get_mut(&who) else { return };
        let first = asker.runs.is_none();
        let lost = asker.runs.as_ref().is_some_and(|before| before.iter().any(|run| !runs.covers(run)));
        asker.runs = Some(runs);
        // What somebody has never makes more to do, but for the first word and for what was lost again.
        if first || lost || self.wants_known() {
            self.refresh_all(now.at);
        }
        let expected = self.row.expected.map(|(expected, _)| expected);
        if sha256.is_some() && expected.is_some() && sha256 != expected {
            self.examine(now);
        }
        self.settle(now);
    }

    /// Whether a chunk is wanted whose digest is known: an asker's word may end that.
    fn wants_known(&self) -> bool {
        self.wanted.iter().flatten().any(|n| self.chunk(n).is_some_and(|chunk| chunk.digest.is_some()))
    }

    /// Takes one asker's wish back. The last one to do so ends the job, kept or not.
    pub(crate) fn leave(&mut self, who: Who, now: Moment) {
        self.dismiss_askers(vec![who], now);
    }

    /// Takes the wishes of all of an account's askers back.
    pub(crate) fn leave_all(&mut self, user: i64, now: Moment) {
        let own = self.of_account(user).map(|(who, _)| *who).collect();
        self.dismiss_askers(own, now);
    }

    fn dismiss_askers(&mut self, leaving: Vec<Who>, now: Moment) {
        let mut any = false;
        for who in leaving {
            let Some(asker) = self.askers.get_mut(&who).filter(|asker| !asker.left) else { continue };
            (asker.present, asker.left, asker.runs) = (false, true, None);
            self.note_asker(who);
            any = true;
        }
        if !any {
            return;
        }
        let all_left = self.askers.values().all(|asker| asker.left);
        let nobody = if self.row.keep { all_left } else { self.present() == 0 };
        if nobody {
            self.finish(JobState::Stopped, Reason::Unwanted, now);
        }
        self.refresh_all(now.at);
        self.settle(now);
    }

    /// Notices who was not heard of for `grace`.
    pub(crate) fn miss_askers(&mut self, grace: Duration, now: Moment) {
        if self.row.state == JobState::Scheduled {
            return;
        }
        let mut gone = Vec::new();
        for (who, asker) in &mut self.askers {
            if asker.present && now.at.saturating_duration_since(asker.heard) >= grace {
                asker.present = false;
                gone.push(*who);
            }
        }
        if gone.is_empty() {
            return;
        }
        gone.into_iter().for_each(|who| self.note_asker(who));
        if self.present() == 0 && !self.row.keep {
            self.finish(JobState::Stopped, Reason::Unwanted, now);
        }
        self.refresh_all(now.at);
        self.settle(now);
    }

    /// Whether every asker has a chunk.
    pub(crate) fn everyone_has(&self, n: u32) -> bool {
        let mut present = self.askers.values().filter(|asker| asker.present).peekable();
        present.peek().is_some() && present.all(|asker| asker.runs.as_ref().is_some_and(|runs| runs.contains(n)))
    }
}
