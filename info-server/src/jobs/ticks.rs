//! What time does to a job. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use wire::{
    ServerId, Zone,
    id::InstanceId,
    job::{JobState, Reason},
};

use super::{
    effects::Effect,
    job::{ASKERS_FIRST, Job, Moment},
    row::Shelf,
};

/// Between two hints while there is work for somebody who does not ask for it.
const HINT: Duration = Duration::from_secs(5);
/// A worker that asked this lately needs no hint.
const ATTENTIVE: Duration = Duration::from_secs(3);
/// Without a byte for so long, the job is given up.
const STALL: Duration = Duration::from_secs(120);
/// The same while it waits for a place at the workers, which other jobs have.
const QUEUED: Duration = Duration::from_secs(3600);
/// A worker that asked this lately has a place for it.
const ATTENDED: Duration = Duration::from_secs(60);
/// Without anybody who could work on it for so long, the job is given up.
const ALONE: Duration = Duration::from_secs(60);

/// Between two looks at where a kept result stands.
const SHELVE: Duration = Duration::from_secs(5);
const ASSIGN_AGAIN: Duration = Duration::from_secs(60);

/// How long things last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// An asker that is not heard of for so long is gone.
    pub(crate) grace: Duration,
    /// How long a job that is over is remembered.
    pub(crate) memory: Duration,
    /// How long a kept result stays.
    pub(crate) keep_for: Duration,
}

/// A server whose lease runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    pub(crate) zone: Zone,
    /// Which start of it.
    pub(crate) instance: InstanceId,
}

impl Job {
    /// Whether a zone's servers may work on it.
    pub(crate) fn admits(&self, zone: &Zone) -> bool {
        self.row.zones.as_ref().is_none_or(|zones| zones.contains(zone))
    }

    /// Lets time pass; `live` are the servers whose lease runs, `crowded` whether they work on other jobs.
    pub(crate) fn tick(&mut self, live: &BTreeMap<ServerId, Alive>, (crowded, terms): (bool, &Terms), now: Moment) {
        match self.row.state {
            JobState::Scheduled if self.is_due(now) => {
                self.probing = true;
                self.begun = now.at;
                self.follow(Effect::Probe);
            }
            JobState::Scheduled => {}
            JobState::Running | JobState::Checking | JobState::Done => self.pass(live, (crowded, terms), now),
            JobState::Direct | JobState::Failed | JobState::Stopped => self.fade(terms, now),
        }
    }

    fn pass(&mut self, live: &BTreeMap<ServerId, Alive>, (crowded, terms): (bool, &Terms), now: Moment) {
        self.see(live, now);
        let over = self.leases.iter().filter(|(_, lease)| lease.is_over(now.at));
        let over: Vec<u64> = over.map(|(fence, _)| *fence).collect();
        over.into_iter().for_each(|fence| self.end_lease(fence));
        if !self.row.formerly.is_empty() && !self.woke && now.at.saturating_duration_since(self.begun) >= ASKERS_FIRST {
            self.woke = true;
            self.refresh_all(now.at);
        }
        self.miss_askers(terms.grace, now);
        if self.is_open() {
            self.pass_checks(now);
        }
        if self.is_open() {
            self.give_up(live, crowded, now);
        }
        self.hint(live, now);
        self.shelve(terms, now);
    }

    /// Takes in who lives.
    fn see(&mut self, live: &BTreeMap<ServerId, Alive>, now: Moment) {
        let mut changed = Vec::new();
        for (seat, worker) in self.workers.iter_mut().enumerate() {
            let alive = live.get(&worker.server);
            if let Some(alive) = alive {
                worker.zone = Some(alive.zone.clone());
            }
            if worker.live != alive.is_some() {
                worker.live = alive.is_some();
                changed.push((seat, worker.live));
            }
        }
        for (seat, lives) in &changed {
            if !lives {
                self.drop_leases_of(*seat);
            }
            let held = (0_u32..).zip(&self.chunks).filter(|(_, chunk)| chunk.holder == Some(*seat));
            let held: Vec<u32> = held.map(|(n, _)| n).collect();
            held.into_iter().for_each(|n| self.touch(n));
        }
        if !changed.is_empty() {
            self.refresh_all(now.at);
            self.settle(now);
        }
    }

    /// Ends a job that nobody can bring to an end.
    fn give_up(&mut self, live: &BTreeMap<ServerId, Alive>, crowded: bool, now: Moment) {
        if self.row.state != JobState::Running {
            self.alone = None;
            return;
        }
        let excluded = |id: &ServerId| self.workers.iter().any(|worker| worker.server == *id && worker.excluded);
        let admitted = live.iter().filter(|(_, alive)| self.admits(&alive.zone));
        let (out, able): (Vec<_>, Vec<_>) = admitted.map(|(id, _)| id).partition(|id| excluded(id));
        let since = |at: Instant| now.at.saturating_duration_since(at);
        let waited = since(self.moved);
        if !able.is_empty() {
            self.alone = None;
        } else if !out.is_empty() {
            self.finish(JobState::Failed, Reason::WorkersFailed, now);
            return;
        } else if now.at.saturating_duration_since(*self.alone.get_or_insert(now.at)) >= ALONE {
            self.finish(JobState::Failed, Reason::NoWorkers, now);
            return;
        }
        // A job for which nobody has a place yet, because of others, is not stalled: its turn comes.
        let queued = crowded && !self.workers.iter().any(|worker| worker.seen.is_some_and(|at| since(at) < ATTENDED));
        if waited >= if queued { QUEUED } else { STALL } && !self.wanted.is_empty() {
            self.finish(JobState::Failed, self.trouble.unwrap_or(Reason::WorkersFailed), now);
        }
    }

    /// Tells of work while somebody who could do it does not ask for it, and asks those who may have lost what they held.
    fn hint(&mut self, live: &BTreeMap<ServerId, Alive>, now: Moment) {
        let work = match self.row.state {
            JobState::Running => !self.wanted.is_empty() || self.checks.has_disputes(),
            JobState::Checking => true,
            _ => false,
        };
        let lately = |at: Option<Instant>, span| at.is_some_and(|at| now.at.saturating_duration_since(at) < span);
        let deaf = |id: &ServerId| {
            let worker = self.workers.iter().find(|worker| worker.server == *id);
            worker.is_none_or(|worker| !worker.excluded && !lately(worker.seen, ATTENTIVE))
        };
        let needed = live.iter().any(|(id, alive)| self.admits(&alive.zone) && deaf(id));
        if !lately(self.hinted, HINT) && (work && needed || self.doubts_a_holder(live)) {
            self.hinted = Some(now.at);
            self.follow(Effect::Hint);
        }
    }

    /// What becomes of a result.
    fn shelve(&mut self, terms: &Terms, now: Moment) {
        if self.row.state != JobState::Done {
            return;
        }
        if self.row.keep && self.row.expires_at.is_none() {
            let expires_at = now.wall.checked_add(terms.keep_for).ok();
            self.change_row(|row| row.expires_at = expires_at);
        }
        let (every, next) = match self.row.shelf {
            Shelf::No if self.row.keep => (SHELVE, Some(Effect::Assign)),
            // Those who were told may be gone.
            Shelf::Assigned => (ASSIGN_AGAIN, Some(Effect::Assign)),
            Shelf::Published => (SHELVE, Some(Effect::Tidy)),
            Shelf::No | Shelf::Tidied => (SHELVE, None),
        };
        let due = self.shelved.is_none_or(|at| now.at.saturating_duration_since(at) >= every);
        if let Some(next) = next.filter(|_| due) {
            self.shelved = Some(now.at);
            self.follow(next);
        }
        if self.row.expires_at.is_some_and(|expires_at| expires_at <= now.wall) {
            self.finish(JobState::Stopped, Reason::Unwanted, now);
        }
    }

    fn fade(&mut self, terms: &Terms, now: Moment) {
        let until = self.row.over_at.and_then(|over_at| over_at.checked_add(terms.memory).ok());
        if until.is_none_or(|until| until <= now.wall) {
            self.follow(Effect::Forget);
        }
    }
}
