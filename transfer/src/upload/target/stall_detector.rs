//! Detection of targets that make no progress.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Time after which a target is stalled that takes no byte, or whose attempts all fail.
const STALL_TIMEOUT: Duration = Duration::from_secs(6);
/// The same for a target that takes no byte and whose attempts all fail: it cannot even be reached.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The progress of a target, shared by all requests to it.
#[derive(Debug)]
pub(super) struct StallDetector(Mutex<State>);

#[derive(Debug)]
struct State {
    last_progress: Instant,
    /// Requests that wait for our own limit.
    waiting: u32,
    /// The failures since the last accepted chunk.
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    last_reason: String,
}

impl Default for StallDetector {
    fn default() -> Self {
        Self(Mutex::new(State { last_progress: Instant::now(), waiting: 0, failing: None }))
    }
}

impl StallDetector {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the target took bytes.
    pub(super) fn progressed(&self) {
        self.state().last_progress = Instant::now();
    }

    /// Records that a request to the target waits for our own limit: until that ends, the target is not stalled.
    pub(super) fn wait_begins(&self) {
        self.state().waiting += 1;
    }

    /// Records the end of such a wait.
    pub(super) fn wait_ends(&self) {
        let mut state = self.state();
        state.waiting = state.waiting.saturating_sub(1);
        if state.failing.is_none() {
            state.last_progress = Instant::now();
        }
    }

    /// Records that the target accepted a chunk.
    pub(super) fn chunk_accepted(&self) {
        let mut state = self.state();
        (state.last_progress, state.failing) = (Instant::now(), None);
    }

    /// Records an attempt that failed and may be followed by another.
    pub(super) fn failed(&self, reason: &str) {
        let mut state = self.state();
        let since = state.failing.take().map_or_else(Instant::now, |failing| failing.since);
        state.failing = Some(Failing { since, last_reason: reason.to_owned() });
    }

    /// Returns the reason for which the target makes no progress, if it makes none.
    pub(super) fn stall(&self) -> Option<String> {
        let now = Instant::now();
        let state = self.state();
        if state.waiting > 0 {
            return None;
        }
        let idle = now.saturating_duration_since(state.last_progress);
        if let Some(failing) = &state.failing {
            let failing_for = now.saturating_duration_since(failing.since);
            // A server that answers, with whatever error, takes bytes again and again; one that is gone takes none.
            let is_unreachable = failing_for >= UNREACHABLE_TIMEOUT && idle >= UNREACHABLE_TIMEOUT;
            return (failing_for >= STALL_TIMEOUT || is_unreachable).then(|| failing.last_reason.clone());
        }
        (idle >= STALL_TIMEOUT).then(|| format!("it took nothing for {} s", STALL_TIMEOUT.as_secs()))
    }
}
