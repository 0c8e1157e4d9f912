//! The scheduler of a download: which source receives a request for which chunks, and when.
//!
//! **Invariant.** Every chunk is at any time in exactly one of four states: *unknown* (its digest is missing), *waiting*,
//! *held* by exactly one request, or *verified*. A verified chunk never changes its state again. A chunk leaves a
//! request only when the request has verified it, has ended, or has confirmed that it was truncated before the chunk.
//!
//! Nothing here does I/O or reads a clock: `now` is the time since the download began. The caller reports what happened
//! ([`Schedule::answered`], [`Schedule::received`], [`Schedule::verified`], [`Schedule::ended`]) and executes what
//! [`Schedule::next_action`] returns until it returns nothing. The README of the crate explains the algorithm.

mod abandon;
mod assign;
mod contest;
mod estimate;
mod extent;
mod fault;
mod health;
mod rate;
mod rebalance;
mod request;
mod request_events;
mod source;
mod status;
mod supply;
#[cfg(test)]
mod tests;
mod tiers;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use wire::{ChunkLayout, ChunkSet};

use self::{contest::Contest, extent::intersection, request::Request, source::SourceState};
pub use self::{
    fault::{RequestOutcome, SourceFault},
    request::RequestId,
    source::SourceId,
};

/// A decision of the scheduler, to be executed by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Request the chunks from the source.
    Fetch {
        /// The new request.
        request: RequestId,
        /// The source.
        source: SourceId,
        /// The chunks, never none.
        run: Range<u32>,
    },
    /// End the request before chunk `end` if the request has not begun that chunk, and report the new end by
    /// [`Schedule::truncated`].
    Truncate {
        /// The request.
        request: RequestId,
        /// The first chunk that the request should no longer begin.
        end: u32,
    },
    /// Stop the request at once, and report it by [`Schedule::ended`] when nothing of it runs any more.
    Abandon {
        /// The request.
        request: RequestId,
    },
}

/// Resources that the download lacks and that the directory may supply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// Chunks are waiting that no live source holds.
    pub sources: bool,
    /// Chunks have no digest.
    pub digests: bool,
    /// A source refuses the token.
    pub token: bool,
}

/// The state machine of one download.
#[derive(Debug)]
pub struct Schedule {
    layout: ChunkLayout,
    max_requests: usize,
    /// Limit at a source that gives each request [`assign::MIN_RATE_PER_REQUEST`].
    max_requests_fast: usize,
    /// Requests in flight in all that our own limit can feed.
    max_requests_by_limit: Option<usize>,
    /// Set if nearer sources exclude farther ones however little they give.
    strict_tiers: bool,
    /// Time of the last speed trial of an excluded source.
    last_trial: Option<Duration>,
    sources: Vec<SourceState>,
    requests: BTreeMap<RequestId, Request>,
    next_request: u64,
    unknown: ChunkSet,
    waiting: ChunkSet,
    verified: ChunkSet,
    reserved_for: Option<Reservation>,
    /// Chunks that only one source at a time may supply.
    contests: BTreeMap<u32, Contest>,
    /// Bytes that the sink holds of waiting chunks.
    begun: BTreeMap<u32, u64>,
    /// Chunks that a source began and that are not verified yet.
    unfinished: BTreeSet<ChunkOfSource>,
    waste: Waste,
    switches: u32,
    last_verified: Duration,
    /// Bytes received since `last_verified` that may lead to a verified chunk, and when the last of them arrived.
    gained_since_verified: u64,
    last_gain: Duration,
    /// Positions of the bytes that each source gave of each chunk since `last_verified`: the same once more, after the
    /// chunk had to begin anew, are no gain.
    given: BTreeMap<ChunkOfSource, ChunkSet>,
    /// Time of the last report that the sources will receive more chunks.
    last_expected: Duration,
}

/// The source that must receive a stolen chunk next. Without it, a nearer source would win the chunk back and lose it
/// again.
#[derive(Debug, Clone, Copy)]
struct Reservation {
    source: SourceId,
    chunk: u32,
}

/// A chunk as far as one source gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ChunkOfSource {
    source: SourceId,
    chunk: u32,
}

/// Bytes that were received and not used.
#[derive(Debug, Default, Clone, Copy)]
struct Waste {
    /// Lost because the scheduler stole work.
    by_choice: u64,
    /// Set aside for steals that are under way.
    reserved: u64,
    total: u64,
}

impl Schedule {
    /// Creates a schedule of the chunks that are not in `verified`, with up to `max_requests` requests in flight at one
    /// source. No digest is known yet: see [`Schedule::add_digests`].
    pub fn new(layout: ChunkLayout, verified: ChunkSet, max_requests: usize) -> Self {
        Self {
            layout,
            max_requests: max_requests.max(1),
            max_requests_fast: 0,
            max_requests_by_limit: None,
            strict_tiers: false,
            last_trial: None,
            sources: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            unknown: verified.gaps(0..layout.count()),
            waiting: ChunkSet::new(),
            verified,
            reserved_for: None,
            contests: BTreeMap::new(),
            begun: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            waste: Waste::default(),
            switches: 0,
            last_verified: Duration::ZERO,
            gained_since_verified: 0,
            last_gain: Duration::ZERO,
            given: BTreeMap::new(),
            last_expected: Duration::ZERO,
        }
    }

    /// Restricts farther sources to chunks that no nearer source holds.
    #[must_use]
    pub fn with_strict_tiers(self) -> Self {
        Self { strict_tiers: true, ..self }
    }

    /// Allows up to `max_requests` requests at a source, if that is more than otherwise, while each receives a fair rate.
    #[must_use]
    pub fn with_more_at_fast_sources(self, max_requests: usize) -> Self {
        Self { max_requests_fast: max_requests, ..self }
    }

    /// Adds a source that holds `runs`. A source of a higher `tier` gets no request while sources of lower tiers are live and
    /// fast enough.
    pub fn add_source(&mut self, tier: u8, runs: ChunkSet) -> SourceId {
        self.sources.push(SourceState::new(tier, runs));
        SourceId::new(self.sources.len() - 1)
    }

    /// Replaces the tier and the chunks of `source`. Returns true if either changed.
    pub fn set_source(&mut self, source: SourceId, tier: u8, runs: ChunkSet) -> bool {
        let Some(state) = self.source_mut(source) else { return false };
        let changed = state.tier != tier || state.runs != runs;
        (state.tier, state.runs) = (tier, runs);
        changed
    }

    /// Allows requests for `chunks`, whose digests are known now. Returns true if any digest was unknown before.
    pub fn add_digests(&mut self, chunks: &ChunkSet) -> bool {
        let new = intersection(&self.unknown, chunks);
        for run in new.iter() {
            self.unknown.remove(run.clone());
            self.waiting.insert(run);
        }
        !new.is_empty()
    }

    /// Records that the sources will receive more chunks: until then the download is not given up.
    pub fn expect_more(&mut self, now: Duration) {
        self.last_expected = now;
    }

    /// Allows requests again at sources that refused the previous token.
    pub fn token_renewed(&mut self) {
        self.sources.iter_mut().for_each(|source| source.health.token_renewed());
    }

    /// Decides what to do now. To be called until it returns nothing.
    pub fn next_action(&mut self, now: Duration) -> Option<Action> {
        let busy = self.busy_sources();
        for (id, source) in (0..).map(SourceId::new).zip(&mut self.sources) {
            source.rate.update(now, busy.contains(&id));
        }
        self.abandon(now).or_else(|| self.assign(now)).or_else(|| self.rebalance(now))
    }

    fn source(&self, source: SourceId) -> Option<&SourceState> {
        self.sources.get(source.index())
    }

    fn source_mut(&mut self, source: SourceId) -> Option<&mut SourceState> {
        self.sources.get_mut(source.index())
    }

    /// Returns the sources with their ids.
    fn enumerated_sources(&self) -> impl Iterator<Item = (SourceId, &SourceState)> {
        (0..).map(SourceId::new).zip(&self.sources)
    }

    /// Returns the sources at which a request is in flight.
    fn busy_sources(&self) -> BTreeSet<SourceId> {
        self.requests.values().map(|request| request.source).collect()
    }

    /// Returns how many requests are in flight at `source`.
    fn requests_at(&self, source: SourceId) -> usize {
        self.requests.values().filter(|request| request.source == source).count()
    }
}
