//! Connection state of each side of a bus, for readiness checks and metrics.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::BusError;

/// Time for which a reason that was logged is not logged again, although others came between.
const REPEAT_INTERVAL: Duration = Duration::from_secs(300);
/// Time after which a connection counts as the end of an outage.
pub(crate) const STABLE_TIME: Duration = Duration::from_secs(10);
/// Reasons that are remembered.
const MAX_REASONS: usize = 16;

/// Phase of one side of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// State before the start and after a shutdown.
    Idle,
    /// Tries to connect, without an end.
    Connecting,
    /// Connected and working.
    Connected,
    /// Connected, but the broker accepts no messages.
    Blocked,
}

/// Connection state of one side of a bus.
#[derive(Debug, Clone)]
pub struct BusState {
    /// Current phase.
    pub phase: Phase,
    /// Start of the current phase.
    pub since: Instant,
    /// Latest error in the current phase.
    pub error: Option<String>,
    /// Kind of that error, see [`BusError::kind`].
    pub kind: Option<&'static str>,
    /// Fault of the queue of dead-lettered messages, which stops nothing.
    pub warning: Option<String>,
}

/// Writing end of a [`BusState`].
#[derive(Debug)]
pub(crate) struct State {
    state: watch::Sender<BusState>,
    /// Reasons that were logged in this outage, with the time.
    logged: Mutex<VecDeque<(String, Instant)>>,
}

impl State {
    pub(crate) fn new(phase: Phase) -> Self {
        let state = BusState { phase, since: Instant::now(), error: None, kind: None, warning: None };
        Self { state: watch::Sender::new(state), logged: Mutex::default() }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    /// Enters a phase; has no effect if it is the current one. Returns true if that is worth a line.
    pub(crate) fn enter(&self, phase: Phase) -> bool {
        let changed = self.state.send_if_modified(|state| {
            let changes = state.phase != phase;
            if changes {
                let warning = state.warning.take();
                *state = BusState { phase, since: Instant::now(), error: None, kind: None, warning };
            }
            changes
        });
        changed && self.is_new(&format!("{phase:?}"))
    }

    /// Records an error and enters [`Phase::Connecting`].
    pub(crate) fn fail(&self, side: &'static str, error: &BusError) {
        self.stop(Phase::Connecting, error, |reason| {
            tracing::warn!(side, error = reason, "Event bus: the {side} is not connected; it keeps trying: {reason}");
        });
    }

    /// Enters [`Phase::Blocked`] for the reason that the broker gave.
    pub(crate) fn block(&self, side: &'static str, alarm: &BusError) {
        self.stop(Phase::Blocked, alarm, |reason| {
            tracing::warn!(side, error = reason, "Event bus: the {side} waits: {reason}");
        });
    }

    /// Records the state of the queue of dead-lettered messages. Logged once per change.
    pub(crate) fn dead_letters(&self, fault: Option<&BusError>) {
        let fault = fault.map(ToString::to_string);
        self.state.send_if_modified(|state| {
            let changes = state.warning != fault;
            match &fault {
                Some(reason) if changes => tracing::warn!(error = reason, "Event bus: {reason}"),
                None if changes => tracing::info!("Event bus: the queue ddm.dead is as DDM declares it"),
                _ => {}
            }
            state.warning = fault;
            changes
        });
    }

    /// Enters a phase in which nothing is sent. Logged once for each reason of an outage, not for each attempt.
    fn stop(&self, phase: Phase, error: &BusError, log: impl FnOnce(&str)) {
        let reason = error.to_string();
        let was_stable = {
            let state = self.state.borrow();
            state.phase == Phase::Connected && state.since.elapsed() >= STABLE_TIME
        };
        if was_stable {
            // Another outage. A connection that fails at once belongs to the one before.
            self.logged.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        if self.is_new(&reason) {
            log(&reason);
        }
        self.state.send_modify(|state| {
            if state.phase != phase {
                (state.phase, state.since) = (phase, Instant::now());
            }
            (state.error, state.kind) = (Some(reason), Some(error.kind()));
        });
    }

    /// Returns true if a reason was not logged lately, and remembers it.
    fn is_new(&self, reason: &str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|(_, at)| at.elapsed() < REPEAT_INTERVAL);
        if logged.iter().any(|(known, _)| known == reason) {
            return false;
        }
        if logged.len() == MAX_REASONS {
            logged.pop_front();
        }
        logged.push_back((reason.to_owned(), Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_once_and_a_new_one_again() {
        let state = State::new(Phase::Connecting);
        let refused = || BusError::Broker { code: Some(403), text: "ACCESS_REFUSED - no".to_owned() };
        let mut lines = Vec::new();
        for error in [BusError::Unavailable, BusError::Unavailable, refused(), BusError::Unavailable, refused()] {
            state.stop(Phase::Connecting, &error, |reason| lines.push(reason.to_owned()));
        }
        assert_eq!(lines, ["the broker is not connected", "ACCESS_REFUSED - no"]);
        let shown = state.subscribe().borrow().clone();
        assert_eq!((shown.error.as_deref(), shown.kind), (Some("ACCESS_REFUSED - no"), Some("access-refused")));
        assert!(state.enter(Phase::Connected) && !state.enter(Phase::Connected));
        assert_eq!(state.subscribe().borrow().error, None);
        state.stop(Phase::Connecting, &refused(), |reason| lines.push(reason.to_owned()));
        assert!(
            lines.len() == 2 && !state.enter(Phase::Connected),
            "the same outage, which the connection did not end"
        );
        state.state.send_modify(|state| state.since = state.since.checked_sub(STABLE_TIME).unwrap());
        state.stop(Phase::Connecting, &refused(), |reason| lines.push(reason.to_owned()));
        assert!(lines.len() == 3 && state.enter(Phase::Connected), "another outage");
    }
}
