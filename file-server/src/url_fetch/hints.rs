//! Hints that a job may have work for this server. A hint that is lost or comes late does no harm: it is repeated while work
//! remains.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::JobId;

/// Hints kept; beyond it the oldest is dropped.
const MAX_QUEUED_HINTS: usize = 256;

/// The jobs with a hint, each once. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobHints(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    jobs: Mutex<VecDeque<JobId>>,
    added: Notify,
}

impl JobHints {
    /// Adds a hint.
    pub(crate) fn add(&self, job: JobId) {
        let mut jobs = self.jobs();
        if jobs.contains(&job) {
            return;
        }
        if jobs.len() >= MAX_QUEUED_HINTS {
            jobs.pop_front();
        }
        jobs.push_back(job);
        drop(jobs);
        self.0.added.notify_one();
    }

    /// Waits for a hint.
    pub(super) async fn added(&self) {
        self.0.added.notified().await;
    }

    /// Removes the hints of jobs that are worked on.
    pub(super) fn remove_if(&self, is_running: impl Fn(&JobId) -> bool) {
        self.jobs().retain(|job| !is_running(job));
    }

    /// Takes the oldest hint.
    pub(super) fn next(&self) -> Option<JobId> {
        self.jobs().pop_front()
    }

    /// Returns true if there is a hint about another job than this one.
    pub(super) fn has_other_than(&self, job: JobId) -> bool {
        self.jobs().iter().any(|other| *other != job)
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<JobId>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_waits_once_and_a_flood_pushes_the_oldest_out() {
        let hints = JobHints::default();
        let jobs: Vec<JobId> = std::iter::repeat_with(JobId::new).take(MAX_QUEUED_HINTS + 1).collect();
        for job in jobs.iter().chain(&jobs) {
            hints.add(*job);
        }
        assert!(hints.has_other_than(jobs[0]));
        hints.remove_if(|job| *job == jobs[9]);
        let left: Vec<JobId> = std::iter::from_fn(|| hints.next()).collect();
        assert_eq!(left, [&jobs[1..9], &jobs[10..]].concat());
        assert!(!hints.has_other_than(jobs[0]));
    }
}
