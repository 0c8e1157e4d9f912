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

    /// Whether going on is no use: nothing came for `wait`, or for so long no chunk was completed and what came was less than
    /// the slowest bearable source would have given, or too long for any chunk.
    pub fn is_hopeless(&self, wait: Duration, now: Duration) -> bool {
        let since = |last: Duration| now.saturating_sub(last.max(self.last_verified).max(self.last_hope));
        let (silent, idle) = (since(self.last_received), since(Duration::ZERO));
        let longest = wait.max(Duration::from_secs(chunk_len(self.layout) / SLOWEST));
        let crawls = self.since_verified < SLOWEST.saturating_mul(idle.as_secs());
        !self.is_done() && (silent >= wait || (idle >= wait && crawls) || idle >= longest)
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

    /// Whether any source may be asked for more than a probe.
    pub fn any_lives(&self) -> bool {
        self.sources.iter().any(|seat| seat.health.lives())
    }

    /// Whether `source` gives less than half of what the fastest one gives.
    pub fn is_slow(&self, source: SourceKey) -> bool {
        let fastest = self.sources.iter().filter_map(|seat| seat.rate.get()).max().unwrap_or(0);
        let own = self.sources.get(source).and_then(|seat| seat.rate.get());
        own.is_some_and(|own| own < fastest / 2)
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
