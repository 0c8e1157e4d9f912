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

    /// The next job that is not worked on. Hints about the others are dropped.
    pub(super) fn next(&self, is_running: impl Fn(&JobId) -> bool) -> Option<JobId> {
        let mut jobs = self.jobs();
        jobs.retain(|job| !is_running(job));
        jobs.pop_front()
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
        assert_ne!(hints.next(|_| false), Some(jobs[0]));
        let mut left = 0;
        while hints.next(|job| *job == jobs[9]).is_some_and(|job| job != jobs[9]) {
            left += 1;
        }
        assert!(left <= MOST, "{left}");
        assert!(!hints.has_other_than(jobs[0]));
    }
}
