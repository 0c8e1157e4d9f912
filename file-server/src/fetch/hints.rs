//! Jobs of which was said that there is something to do. A hint that is lost or comes late does no harm: it is repeated while
//! work remains.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::JobId;

/// Hints kept; beyond it the oldest goes.
const MOST: usize = 256;

/// The jobs, each once. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    jobs: Mutex<VecDeque<JobId>>,
    told: Notify,
}

impl Hints {
    /// There may be something to do.
    pub(crate) fn tell(&self, job: JobId) {
        let mut jobs = self.jobs();
        if jobs.contains(&job) {
            return;
        }
        if jobs.len() >= MOST {
            jobs.pop_front();
        }
        jobs.push_back(job);
        drop(jobs);
        self.0.told.notify_one();
    }

    /// Waits for a hint.
    pub(super) async fn told(&self) {
        self.0.told.notified().await;
    }

    /// Forgets hints about jobs that are worked on.
    pub(super) fn drop_if(&self, is_running: impl Fn(&JobId) -> bool) {
        self.jobs().retain(|job| !is_running(job));
    }

    /// The job that waits longest.
    pub(super) fn next(&self) -> Option<JobId> {
        self.jobs().pop_front()
    }

    /// Whether there is another job to work on than this one.
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
        let hints = Hints::default();
        let jobs: Vec<JobId> = std::iter::repeat_with(JobId::new).take(MOST + 1).collect();
        for job in jobs.iter().chain(&jobs) {
            hints.tell(*job);
        }
        assert!(hints.has_other_than(jobs[0]));
        hints.drop_if(|job| *job == jobs[9]);
        let left: Vec<JobId> = std::iter::from_fn(|| hints.next()).collect();
        assert_eq!(left, [&jobs[1..9], &jobs[10..]].concat());
        assert!(!hints.has_other_than(jobs[0]));
    }
}
