//! The requesters of a job: processes of accounts, and accounts by themselves, that want its result.
//!
//! Invariants:
//! - a requester that left does not come back by a late request: only a new `POST /v1/jobs` brings it back;
//! - an account takes part while one of its requesters has not left: what the account may see is the matter of all of them;
//! - at most [`MAX_REQUESTERS_PER_ACCOUNT`] are remembered of one account.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use wire::ChunkSet;

use super::record::{JobChanges, RequesterKey, RequesterRecord};

/// Requesters that are remembered of one account and job. The absent one that was seen longest ago makes room for a newcomer.
pub(crate) const MAX_REQUESTERS_PER_ACCOUNT: usize = 64;

/// The refusal of a further requester: as many of the account are present as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyRequesters;

#[derive(Debug, Clone)]
struct Requester {
    /// Set while it wants the result.
    present: bool,
    /// Set once it withdrew its request, until it asks again.
    left: bool,
    /// The chunks it has; none before its first report.
    chunks: Option<ChunkSet>,
    last_seen: Instant,
}

/// The difference that a progress report makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The requester is not known.
    Unknown,
    /// The first report, or chunks were lost again: more may have to be fetched.
    FirstOrLost,
    /// The requester has what it had, and perhaps more.
    Grown,
}

/// All requesters of a job.
#[derive(Debug, Default)]
pub(crate) struct Requesters {
    known: BTreeMap<RequesterKey, Requester>,
    changed: BTreeSet<RequesterKey>,
}

impl Requesters {
    pub(crate) fn restore(&mut self, record: RequesterRecord, now: Instant) {
        let RequesterRecord { key, present, left } = record;
        self.known.insert(key, Requester { present, left, chunks: None, last_seen: now });
    }

    /// Moves all requesters into the job that has begun in place of this one.
    pub(crate) fn hand_over(&mut self, now: Instant) -> Self {
        let mut known = std::mem::take(&mut self.known);
        known.values_mut().for_each(|requester| requester.last_seen = now);
        let changed = known.keys().copied().collect();
        Self { known, changed }
    }

    /// Adds a requester, for the first time or again.
    ///
    /// # Errors
    /// [`TooManyRequesters`] when every one that is remembered of the account is present.
    pub(crate) fn join(&mut self, key: RequesterKey, now: Instant) -> Result<(), TooManyRequesters> {
        self.make_room(key)?;
        let before = self.known.get(&key).filter(|requester| requester.present);
        let chunks = before.and_then(|requester| requester.chunks.clone());
        self.known.insert(key, Requester { present: true, left: false, chunks, last_seen: now });
        self.changed.insert(key);
        Ok(())
    }

    /// Keeps the memory of an account's requesters within its bound.
    fn make_room(&mut self, key: RequesterKey) -> Result<(), TooManyRequesters> {
        if self.known.contains_key(&key) || self.of_account(key.user).count() < MAX_REQUESTERS_PER_ACCOUNT {
            return Ok(());
        }
        let absent = self.of_account(key.user).filter(|(_, requester)| !requester.present);
        let oldest = absent.min_by_key(|(_, requester)| (!requester.left, requester.last_seen)).map(|(key, _)| *key);
        let oldest = oldest.ok_or(TooManyRequesters)?;
        self.known.remove(&oldest);
        self.changed.insert(oldest);
        Ok(())
    }

    fn of_account(&self, user: i64) -> impl Iterator<Item = (&RequesterKey, &Requester)> {
        let after = user.checked_add(1).map(|user| RequesterKey { user, process: None });
        let from = RequesterKey { user, process: None };
        self.known.range(from..).take_while(move |(key, _)| after.is_none_or(|after| **key < after))
    }

    pub(crate) fn keys_of_account(&self, user: i64) -> Vec<RequesterKey> {
        self.of_account(user).map(|(key, _)| *key).collect()
    }

    pub(crate) fn contains(&self, key: RequesterKey) -> bool {
        self.known.contains_key(&key)
    }

    /// Returns true if an account asked for the job and did not withdraw that.
    pub(crate) fn has_account(&self, user: i64) -> bool {
        self.of_account(user).any(|(_, requester)| !requester.left)
    }

    /// Returns true if an account wants the job now, or has it kept.
    pub(crate) fn counts_for_account(&self, user: i64, kept: bool) -> bool {
        self.of_account(user).any(|(_, requester)| requester.present || (kept && !requester.left))
    }

    /// Returns true if an account asked for the job at any time.
    pub(crate) fn had_account(&self, user: i64) -> bool {
        self.of_account(user).next().is_some()
    }

    /// Returns the accounts that asked for the job at any time, each at least once.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = i64> {
        self.known.keys().map(|key| key.user)
    }

    /// Returns true if a requester left, or was never there.
    pub(crate) fn has_left(&self, key: RequesterKey) -> bool {
        self.known.get(&key).is_none_or(|requester| requester.left)
    }

    pub(crate) fn present_count(&self) -> usize {
        self.known.values().filter(|requester| requester.present).count()
    }

    pub(crate) fn all_left(&self) -> bool {
        self.known.values().all(|requester| requester.left)
    }

    /// Returns true if a requester that is present has not reported its chunks yet.
    pub(crate) fn any_unreported(&self) -> bool {
        self.known.values().any(|requester| requester.present && requester.chunks.is_none())
    }

    /// Returns true if requesters are present and every one of them has a chunk.
    pub(crate) fn all_have(&self, n: u32) -> bool {
        let mut present = self.known.values().filter(|requester| requester.present).peekable();
        present.peek().is_some()
            && present.all(|requester| requester.chunks.as_ref().is_some_and(|chunks| chunks.contains(n)))
    }

    /// Renews the lease of a requester that has not left; returns true if it was absent before.
    pub(crate) fn renew(&mut self, key: RequesterKey, now: Instant) -> bool {
        let Some(requester) = self.known.get_mut(&key).filter(|requester| !requester.left) else { return false };
        requester.last_seen = now;
        let returned = !requester.present;
        if returned {
            requester.present = true;
            self.changed.insert(key);
        }
        returned
    }

    pub(crate) fn set_chunks(&mut self, key: RequesterKey, chunks: ChunkSet) -> Progress {
        let Some(requester) = self.known.get_mut(&key) else { return Progress::Unknown };
        let before = requester.chunks.replace(chunks);
        let now = requester.chunks.as_ref();
        let grown = before.zip(now).is_some_and(|(before, now)| before.iter().all(|run| now.covers(run)));
        if grown { Progress::Grown } else { Progress::FirstOrLost }
    }

    /// Withdraws requests; returns true if one of them stood.
    pub(crate) fn leave(&mut self, keys: Vec<RequesterKey>) -> bool {
        let mut any = false;
        for key in keys {
            let Some(requester) = self.known.get_mut(&key).filter(|requester| !requester.left) else { continue };
            (requester.present, requester.left, requester.chunks) = (false, true, None);
            self.changed.insert(key);
            any = true;
        }
        any
    }

    /// Marks those absent that were not seen for `grace`; returns true if there are any.
    pub(crate) fn expire(&mut self, grace: Duration, now: Instant) -> bool {
        let mut any = false;
        for (key, requester) in &mut self.known {
            if requester.present && now.saturating_duration_since(requester.last_seen) >= grace {
                requester.present = false;
                self.changed.insert(*key);
                any = true;
            }
        }
        any
    }

    pub(crate) fn discard_changes(&mut self) {
        self.changed.clear();
    }

    pub(crate) fn take_changes(&mut self, into: &mut JobChanges) {
        for key in std::mem::take(&mut self.changed) {
            match self.known.get(&key) {
                Some(Requester { present, left, .. }) => {
                    into.requesters.push(RequesterRecord { key, present: *present, left: *left });
                }
                None => into.forgotten_requesters.push(key),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn mark_all(&mut self) {
        self.changed = self.known.keys().copied().collect();
    }
}
