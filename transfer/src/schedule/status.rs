//! Reports of a schedule about itself.

use std::time::Duration;

use wire::ChunkSet;

use super::{Missing, Schedule, extent::chunk_len, request::MIN_SILENCE, source::SourceId};
use crate::progress::SourceActivity;

/// Slowest rate, in bytes per second, at which a download is still worth continuing.
const MIN_USEFUL_RATE: u64 = 1024;
/// Longest time without a verified chunk, whatever arrives: a file with chunks so large would take years.
const MAX_CHUNK_TIME: Duration = Duration::from_secs(3600);

impl Schedule {
    /// Returns true if every chunk is verified and no request is in flight.
    pub fn is_done(&self) -> bool {
        self.requests.is_empty() && self.verified.covers(0..self.layout.count())
    }

    /// Returns true if going on is of no use: for `patience` nothing arrived that may lead to a verified chunk, or no chunk was
    /// verified for so long that less of that arrived than a source of `MIN_USEFUL_RATE` would have given, or no chunk was
    /// verified for longer than such a source needs for any chunk, or for `MAX_CHUNK_TIME`.
    ///
    /// Bytes that a source gave before, of a chunk that had to begin anew, lead nowhere new.
    pub fn is_hopeless(&self, patience: Duration, now: Duration) -> bool {
        let since = |last: Duration| now.saturating_sub(last.max(self.last_verified).max(self.last_expected));
        let (silent, without_chunk) = (since(self.last_gain), since(Duration::ZERO));
        let longest = patience.max(Duration::from_secs(chunk_len(self.layout) / MIN_USEFUL_RATE).min(MAX_CHUNK_TIME));
        let crawls = self.gained_since_verified < MIN_USEFUL_RATE.saturating_mul(without_chunk.as_secs());
        let is_slow = without_chunk >= patience && crawls;
        !self.is_done() && (silent >= patience || is_slow || without_chunk >= longest)
    }

    /// Returns what the directory should supply.
    pub fn missing(&self) -> Missing {
        let mut without_source = self.waiting.clone();
        for source in self.sources.iter().filter(|source| source.health.is_live()) {
            source.runs.iter().for_each(|run| without_source.remove(run));
        }
        Missing {
            sources: !without_source.is_empty(),
            digests: !self.unknown.is_empty(),
            token: self.sources.iter().any(|source| source.health.refuses_token()),
        }
    }

    /// Returns the waiting chunks that no source can give: no source holds them, or every one that does was dropped.
    pub fn lost_chunks(&self) -> ChunkSet {
        let mut lost = self.waiting.clone();
        for source in self.sources.iter().filter(|source| !source.health.is_dropped()) {
            source.runs.iter().for_each(|run| lost.remove(run));
        }
        lost
    }

    /// Returns true if only chunks are left that no source can give, see [`Self::lost_chunks`], and no request is in flight.
    pub fn is_exhausted(&self) -> bool {
        self.requests.is_empty() && !self.waiting.is_empty() && self.lost_chunks() == self.waiting
    }

    /// Returns the chunks that are verified.
    pub fn verified_chunks(&self) -> &ChunkSet {
        &self.verified
    }

    /// Returns how many bytes were received and not used so far.
    pub fn wasted_bytes(&self) -> u64 {
        self.waste.total
    }

    /// Returns how often chunks went from one request to another.
    pub fn switches(&self) -> u32 {
        self.switches
    }

    /// Returns true if `source` has failed and has not served since.
    pub fn is_failing(&self, source: SourceId) -> bool {
        self.source(source).is_some_and(|source| !source.health.is_live())
    }

    /// Returns true if `source` receives no request because it never finishes a chunk that it alone has to supply.
    pub fn is_set_aside(&self, source: SourceId) -> bool {
        self.source(source).is_some_and(|source| source.health.is_set_aside())
    }

    /// Returns true if any source may receive more than a probe.
    pub fn any_live(&self) -> bool {
        self.sources.iter().any(|source| source.health.is_live())
    }

    /// Returns true if `source` gives less than half of what the fastest source gives.
    pub fn is_slow(&self, source: SourceId) -> bool {
        let fastest = self.sources.iter().filter_map(|source| source.rate.get()).max().unwrap_or(0);
        let own = self.source(source).and_then(|source| source.rate.get());
        own.is_some_and(|own| own < fastest / 2)
    }

    /// Returns for how long `source` has sent nothing although it was asked; none for a mere pause.
    pub fn silence(&self, source: SourceId) -> Option<Duration> {
        self.source(source).map(|source| source.rate.quiet()).filter(|quiet| *quiet >= MIN_SILENCE)
    }

    /// Returns the bytes per second that `source` gives at present; 0 while no request is in flight there.
    pub fn current_rate(&self, source: SourceId) -> u64 {
        let is_busy = self.requests_at(source) > 0;
        self.source(source).filter(|_| is_busy).and_then(|source| source.rate.get()).unwrap_or(0)
    }

    /// Returns what `source` is doing.
    pub fn activity(&self, source: SourceId, now: Duration) -> SourceActivity {
        let is_busy = self.requests_at(source) > 0;
        match self.source(source).map_or(SourceActivity::Dropped, |source| source.health.activity(now)) {
            SourceActivity::Idle if is_busy => SourceActivity::Active,
            activity => activity,
        }
    }
}
