//! What a schedule can say about itself.

use std::time::Duration;

use wire::Runs;

use super::{Missing, Schedule, SourceKey, chunk_len};
use crate::progress::SourceState;

/// The slowest bearable source, in bytes per second.
const SLOWEST: u64 = 1024;

impl Schedule {
    /// Whether every chunk is verified and no request runs any more.
    pub fn is_done(&self) -> bool {
        self.requests.is_empty() && self.verified.covers(0..self.layout.count())
    }

    /// Whether nothing useful has come for so long that going on is no use: for `wait` when no request receives
    /// anything, and when one does, for as long as the slowest bearable source needs for a chunk.
    pub fn is_hopeless(&self, wait: Duration, now: Duration) -> bool {
        let idle = now.saturating_sub(self.last_verified);
        let longest =
            self.requests.values().filter(|held| held.received > 0).map(|held| now.saturating_sub(held.started)).max();
        let limit = match longest {
            None => wait,
            Some(age) if age < wait => wait * 2,
            Some(_) => wait.max(Duration::from_secs(chunk_len(self.layout) / SLOWEST)),
        };
        !self.is_done() && idle >= limit
    }

    /// What has to be asked for.
    pub fn missing(&self) -> Missing {
        let mut orphans = self.waiting.clone();
        for seat in self.sources.iter().filter(|seat| seat.health.lives()) {
            seat.runs.iter().for_each(|run| orphans.remove(run));
        }
        Missing {
            sources: !orphans.is_empty(),
            digests: !self.unknown.is_empty(),
            token: self.sources.iter().any(|seat| seat.health.refused),
        }
    }

    /// The chunks that are verified.
    pub fn done(&self) -> &Runs {
        &self.verified
    }

    /// Bytes received for nothing so far.
    pub fn wasted(&self) -> u64 {
        self.waste.total
    }

    /// How often chunks went from one request to another.
    pub fn switches(&self) -> u32 {
        self.switches
    }

    /// Whether `source` failed and has not served since.
    pub fn is_failing(&self, source: SourceKey) -> bool {
        self.sources.get(source).is_some_and(|seat| !seat.health.lives())
    }

    /// Bytes per second that `source` gives, and what it is doing.
    pub fn view(&self, source: SourceKey, now: Duration) -> (u64, SourceState) {
        let Some(seat) = self.sources.get(source) else { return (0, SourceState::Dropped) };
        let busy = self.requests.values().any(|held| held.source == source);
        let state = match seat.health.state(now) {
            SourceState::Idle if busy => SourceState::Active,
            state => state,
        };
        (if busy { seat.rate.get().unwrap_or(0) } else { 0 }, state)
    }
}
