//! All jobs, and what they share: origins, limits, counters. Pure.
//!
//! Invariants:
//! - a job whose URL, time, digest and zones a new request allows is joined, never doubled;
//! - the connections of all leases at one origin stay within the [`OriginBudget`];
//! - at most [`MAX_OPEN_JOBS`] jobs are open, and [`MAX_ENDED_JOBS`] that ended are remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wire::{JobId, job::JobState};

use super::{
    model::{
        effect::Effect,
        job::{Job, clock::Surroundings},
        moment::Moment,
        record::{JobChanges, JobRecord},
        retention::Lifetimes,
        worker_table::LiveServers,
    },
    origin_budget::OriginBudget,
};

pub(crate) mod admission;
pub(crate) mod queries;
pub(crate) mod requests;
mod start;
pub(crate) mod workers;

/// Jobs at once that are open or scheduled.
const MAX_OPEN_JOBS: usize = 512;
/// Jobs remembered that ended; beyond it the oldest are forgotten early.
const MAX_ENDED_JOBS: usize = 128;

/// The limits of all jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobLimits {
    pub(crate) lifetimes: Lifetimes,
    pub(crate) origin_connections: u32,
    /// Time without a byte after which a worker's span is taken from it.
    pub(crate) stuck_after: Duration,
    pub(crate) jobs_per_account: usize,
}

/// The totals since the start of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobCounters {
    /// Reports under a lease that had ended.
    pub(crate) stale_reports: u64,
    pub(crate) origin_bytes: u64,
    pub(crate) faulty_workers: u64,
}

/// The rows of one job to be stored, and the effects to be carried out.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) job: JobId,
    /// None if only effects follow.
    pub(crate) changes: Option<JobChanges>,
    pub(crate) effects: Vec<Effect>,
}

/// All jobs.
#[derive(Debug)]
pub(crate) struct Coordinator {
    jobs: BTreeMap<JobId, Job>,
    origins: OriginBudget,
    limits: JobLimits,
    counters: JobCounters,
}

impl Coordinator {
    pub(crate) const fn new(limits: JobLimits) -> Self {
        let origins = OriginBudget::new(limits.origin_connections);
        let counters = JobCounters { stale_reports: 0, origin_bytes: 0, faulty_workers: 0 };
        Self { jobs: BTreeMap::new(), origins, limits, counters }
    }

    /// Takes in a job as it stood in the database.
    pub(crate) fn restore(&mut self, saved: JobChanges, record: JobRecord, seed: u64, now: Moment) {
        self.jobs.insert(record.id, Job::restore(saved, record, seed, now));
    }

    /// Goes on with the counters of a coordinator that this one replaces.
    pub(crate) const fn inherit_counters(&mut self, before: &Self) {
        self.counters = before.counters;
    }

    pub(crate) const fn counters(&self) -> JobCounters {
        self.counters
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(crate) fn job_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(&id)
    }

    pub(crate) fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    /// Returns the number of jobs that are open or scheduled.
    pub(crate) fn open_count(&self) -> usize {
        self.jobs().filter(|job| is_open_or_scheduled(job)).count()
    }

    /// Returns true if time changes anything soon.
    pub(crate) fn is_busy(&self) -> bool {
        self.jobs().any(Job::is_open)
    }

    /// Takes in that time has passed.
    pub(crate) fn tick(&mut self, live: &LiveServers, now: Moment) {
        let leased: Vec<JobId> = self.jobs().filter(|job| !job.leases().is_empty()).map(Job::id).collect();
        for (id, job) in &mut self.jobs {
            let other_jobs_leased = leased.iter().any(|other| other != id);
            job.tick(Surroundings { live, other_jobs_leased, lifetimes: &self.limits.lifetimes }, now);
        }
        let used: BTreeSet<String> =
            self.jobs().filter(|job| job.is_open()).map(|job| job.record().url.origin()).collect();
        self.origins.retain(|origin| used.contains(origin), now.at);
    }

    /// Keeps the memory of jobs that ended within its bound.
    fn forget_oldest(&mut self) {
        let is_dead = |job: &&mut Job| job.state().is_dead();
        let surplus = self.jobs.values_mut().filter(is_dead).count().saturating_sub(MAX_ENDED_JOBS);
        self.jobs.values_mut().filter(is_dead).take(surplus).for_each(|job| job.add_effect(Effect::Forget));
    }

    /// Takes out what is to be stored and done, of all jobs.
    pub(crate) fn take_decisions(&mut self) -> Vec<Decided> {
        let mut decided = Vec::new();
        for (id, job) in &mut self.jobs {
            let (changes, effects) = job.take_changes();
            if changes.is_some() || !effects.is_empty() {
                decided.push(Decided { job: *id, changes, effects });
            }
        }
        for Decided { job, effects, .. } in &decided {
            if effects.iter().any(|effect| matches!(effect, Effect::Forget)) {
                self.jobs.remove(job);
            }
            let faulty = effects.iter().filter(|effect| matches!(effect, Effect::ExcludeFaulty(_))).count();
            self.counters.faulty_workers += u64::try_from(faulty).unwrap_or(u64::MAX);
        }
        decided
    }

    #[cfg(test)]
    pub(crate) fn remove(&mut self, id: JobId) {
        self.jobs.remove(&id);
    }
}

fn is_open_or_scheduled(job: &Job) -> bool {
    job.is_open() || job.state() == JobState::Scheduled
}
