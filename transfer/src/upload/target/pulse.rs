//! Whether a target gets on.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A target that takes no byte for this long, or has only troubles, is stuck.
const STILL: Duration = Duration::from_secs(6);
/// One that cannot even be reached is so sooner.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// When a target last got on; shared by all requests to it.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    beat: Instant,
    /// Since when nothing but troubles, and the last of them.
    trouble: Option<(Instant, String)>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(State { beat: Instant::now(), trouble: None }))
    }
}

impl Pulse {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes were taken off our hands.
    pub(super) fn beat(&self) {
        self.state().beat = Instant::now();
    }

    /// A chunk was taken.
    pub(super) fn taken(&self) {
        *self.state() = State { beat: Instant::now(), trouble: None };
    }

    /// A try failed, and there will be another.
    pub(super) fn trouble(&self, reason: &str) {
        let mut state = self.state();
        let since = state.trouble.take().map_or_else(Instant::now, |(since, _)| since);
        state.trouble = Some((since, reason.to_owned()));
    }

    /// Why it does not get on, if it does not.
    pub(super) fn stuck(&self) -> Option<String> {
        let now = Instant::now();
        let state = self.state();
        let still = now.saturating_duration_since(state.beat);
        if let Some((since, reason)) = &state.trouble {
            let troubled = now.saturating_duration_since(*since);
            // An answer of any kind makes bytes flow again and again; one that is not there takes none.
            let stuck = troubled >= STILL || (troubled >= UNREACHABLE && still >= UNREACHABLE);
            return stuck.then(|| reason.clone());
        }
        (still >= STILL).then(|| format!("it took nothing for {} s", STILL.as_secs()))
    }
}
