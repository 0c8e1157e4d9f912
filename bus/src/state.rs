//! How each side of a bus fares, for readiness checks and metrics.

use std::time::Instant;

use tokio::sync::watch;

use crate::BusError;

/// What one side of a bus is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not started, or shut down.
    Idle,
    /// Trying to connect, for ever.
    Connecting,
    /// At work.
    Connected,
    /// Connected, but the broker takes no messages.
    Blocked,
}

/// What one side of a bus is doing, and since when.
#[derive(Debug, Clone)]
pub struct BusState {
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// The latest failure of this phase.
    pub error: Option<String>,
}

/// The writing end of a [`BusState`].
#[derive(Debug)]
pub(crate) struct State(watch::Sender<BusState>);

impl State {
    pub(crate) fn new(phase: Phase) -> Self {
        Self(watch::Sender::new(BusState { phase, since: Instant::now(), error: None }))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BusState> {
        self.0.subscribe()
    }

    /// Enters a phase; being in it already changes nothing.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|state| {
            let changes = state.phase != phase;
            if changes {
                *state = BusState { phase, since: Instant::now(), error: None };
            }
            changes
        });
    }

    /// Notes a failure that leads (back) to connecting. Logged once per outage, not once per try.
    pub(crate) fn fail(&self, side: &'static str, error: &BusError) {
        self.0.send_modify(|state| {
            let text = error.to_string();
            if state.phase != Phase::Connecting || state.error.is_none() {
                tracing::warn!(side, error = %text, "event bus: not connected, trying again until it is");
            }
            if state.phase != Phase::Connecting {
                (state.phase, state.since) = (Phase::Connecting, Instant::now());
            }
            state.error = Some(text);
        });
    }
}
