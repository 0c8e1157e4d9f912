//! The time by both clocks: durations are measured with the monotonic one, what is stored and shown uses the wall clock.

use std::time::Instant;

use jiff::Timestamp;

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wall: Timestamp::now() }
    }
}
