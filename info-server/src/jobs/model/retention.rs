//! A kept result on its way into the catalogue: unassigned, assigned, published, released.
//!
//! Invariant: a step is repeated no sooner than its interval allows, and the stage never goes back once the file is published.

use std::time::{Duration, Instant};

use super::{effect::Effect, record::RetentionStage};

/// Time between two looks at the state of a kept result.
const STEP_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two assignments: servers that were assigned may be gone.
const REASSIGN_INTERVAL: Duration = Duration::from_secs(60);

/// The times that a job and its parts are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    /// Time after which a requester that is not seen counts as absent.
    pub(crate) requester_grace: Duration,
    /// Time for which a job that ended is kept.
    pub(crate) ended_job: Duration,
    /// Time for which a kept result stays.
    pub(crate) kept_result: Duration,
}

/// The timer of the steps.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    last_step: Option<Instant>,
}

impl Retention {
    /// Returns the next step of a finished job, if it is due, and starts its interval.
    pub(crate) fn next_step(&mut self, stage: RetentionStage, keep: bool, now: Instant) -> Option<Effect> {
        let (interval, step) = match stage {
            RetentionStage::Unassigned if keep => (STEP_INTERVAL, Effect::AssignReplicas),
            RetentionStage::Assigned => (REASSIGN_INTERVAL, Effect::AssignReplicas),
            RetentionStage::Published => (STEP_INTERVAL, Effect::ReleaseWorkers),
            RetentionStage::Unassigned | RetentionStage::Released => return None,
        };
        if self.last_step.is_some_and(|at| now.saturating_duration_since(at) < interval) {
            return None;
        }
        self.last_step = Some(now);
        Some(step)
    }

    /// Starts the interval anew: the file was published.
    pub(crate) const fn restart(&mut self, now: Instant) {
        self.last_step = Some(now);
    }
}
