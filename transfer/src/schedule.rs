//! Which source is asked for which chunks, and when.
//!
//! **Invariant.** Every chunk is at any time in exactly one of these states: *unknown* (its digest is missing), *waiting*,
//! *held* by exactly one request, or *verified*. A verified chunk never changes its state again. A chunk leaves a
//! request only when the request has verified it, has ended, or has confirmed that it was cut short before the chunk.
//!
//! Nothing here does I/O or reads a clock: `now` is the time since the download began. The caller reports what happened
//! ([`Schedule::answered`], [`Schedule::received`], [`Schedule::verified`], [`Schedule::ended`]) and carries out what
//! [`Schedule::step`] returns until it returns nothing.

mod choose;
mod health;
mod outlook;
mod rate;
#[cfg(test)]
mod tests;
mod tiers;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use wire::{Layout, Runs};

use self::{health::Health, rate::Rate};

/// A source in the order in which it was added.
pub type SourceKey = usize;

/// A request, numbered in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the source for the chunks.
    Fetch {
        /// The new request.
        request: RequestId,
        /// The source.
        source: SourceKey,
        /// The chunks, never none.
        run: Range<u32>,
    },
    /// Let the request end before chunk `end` if it has not begun it, and say so by [`Schedule::was_cut`].
    Cut {
        /// The request.
        request: RequestId,
        /// The first chunk it should not begin any more.
        end: u32,
    },
    /// Stop the request at once, and say so by [`Schedule::ended`] when nothing of it runs any more.
    Abandon {
        /// The request.
        request: RequestId,
    },
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It verified all chunks that it was left with.
    Finished,
    /// It was abandoned.
    Abandoned,
    /// It failed.
    Failed(Fault),
}

/// What a failed request says about its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Unreachable, reset, cut short, or an answer to another question: the source rests.
    Broken,
    /// It asked to be left alone (429, 503) for this long, if it said so.
    Busy(Option<Duration>),
    /// It does not hold these chunks.
    NotHeld,
    /// It refuses the token: it rests until there is a new one.
    Refused,
    /// It sent bytes that do not match their digest: it is not asked again.
    WrongBytes,
    /// A chunk that others had begun is wrong: it is to be fetched anew, and who is to blame will show.
    Unclear,
}

/// What is missing to go on, to be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// Chunks wait that no living source holds.
    pub sources: bool,
    /// There are chunks without a digest.
    pub digests: bool,
    /// A source refuses the token.
    pub token: bool,
}

/// The state machine.
#[derive(Debug)]
pub struct Schedule {
    layout: Layout,
    connections: usize,
    /// As many at a source that gives each of them [`choose::FAIR_RATE`].
    fast_connections: usize,
    /// Whether nearer sources keep farther ones out however little they give.
    keeps_near: bool,
    /// When a source that was kept out was tried last.
    tried_far: Option<Duration>,
    sources: Vec<Seat>,
    requests: BTreeMap<RequestId, Held>,
    next_request: u64,
    unknown: Runs,
    waiting: Runs,
    verified: Runs,
    /// Who takes over a chunk that was taken away: whoever is nearer would be given it again otherwise, and again have it taken.
    promised: Option<(SourceKey, u32)>,
    waste: Waste,
    switches: u32,
    last_verified: Duration,
    /// Bytes received since then, and when the last of them came.
    since_verified: u64,
    last_received: Duration,
    /// When it was last said that chunks are on their way to the sources.
    last_hope: Duration,
}

/// A source and what is known of it.
#[derive(Debug)]
struct Seat {
    tier: u8,
    runs: Runs,
    health: Health,
    rate: Rate,
}

/// A request that runs.
#[derive(Debug)]
struct Held {
    source: SourceKey,
    /// Chunks not yet verified; the first is being received.
    run: Range<u32>,
    /// Chunks before this one cannot be taken away by a cut any more.
    begun: u32,
    started: Duration,
    heard: Duration,
    answered: bool,
    /// Bytes of its first chunk that were there before, bytes received, and those of both in verified chunks.
    begun_with: u64,
    received: u64,
    counted: u64,
    /// Bytes of an unfinished chunk that somebody else will go on with.
    kept: u64,
    /// Bytes of the waste budget set aside for taking chunks away from it.
    reserved: u64,
    leaving: Option<Leaving>,
}

impl Held {
    /// Bytes that are there of the chunk being received.
    const fn unfinished(&self) -> u64 {
        (self.begun_with + self.received).saturating_sub(self.counted)
    }
}

/// Why a request was abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Nothing, or next to nothing, comes: the source rests.
    Stalled,
    /// Another source is faster.
    TakenOver,
    /// Its source was dropped.
    Dropped,
}

/// Bytes received for nothing.
#[derive(Debug, Default, Clone, Copy)]
struct Waste {
    /// Because work was taken away by choice, and because it may yet be.
    chosen: u64,
    reserved: u64,
    /// In all.
    total: u64,
}

impl Schedule {
    /// A schedule of the chunks not in `verified`, with up to `connections` requests in flight at one source. No digest is
    /// known yet: see [`Schedule::add_digests`].
    pub fn new(layout: Layout, verified: Runs, connections: usize) -> Self {
        Self {
            layout,
            connections: connections.max(1),
            fast_connections: 0,
            keeps_near: false,
            tried_far: None,
            sources: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            unknown: verified.gaps(0..layout.count()),
            waiting: Runs::new(),
            verified,
            promised: None,
            waste: Waste::default(),
            switches: 0,
            last_verified: Duration::ZERO,
            since_verified: 0,
            last_received: Duration::ZERO,
            last_hope: Duration::ZERO,
        }
    }

    /// A schedule that asks far sources for what no near one holds, and for nothing else.
    #[must_use]
    pub fn keep_near(self) -> Self {
        Self { keeps_near: true, ..self }
    }

    /// A schedule with up to `connections` requests at a source, if these are more, as long as each gets a fair rate.
    #[must_use]
    pub fn more_at_fast_sources(self, connections: usize) -> Self {
        Self { fast_connections: connections, ..self }
    }

    /// Adds a source that holds `runs`. One of a higher `tier` is left alone while those of lower tiers live and keep up.
    pub fn add_source(&mut self, tier: u8, runs: Runs) -> SourceKey {
        self.sources.push(Seat { tier, runs, health: Health::default(), rate: Rate::default() });
        self.sources.len() - 1
    }

    /// Replaces how far `source` is believed to be away and what it is believed to hold. Returns whether that is news.
    pub fn set_source(&mut self, source: SourceKey, tier: u8, runs: Runs) -> bool {
        let Some(seat) = self.sources.get_mut(source) else { return false };
        let news = seat.tier != tier || seat.runs != runs;
        (seat.tier, seat.runs) = (tier, runs);
        news
    }

    /// The digests of `chunks` are known now: they may be asked for. Returns whether that is news.
    pub fn add_digests(&mut self, chunks: &Runs) -> bool {
        let new = intersection(&self.unknown, chunks);
        for run in new.iter() {
            self.unknown.remove(run.clone());
            self.waiting.insert(run);
        }
        !new.is_empty()
    }

    /// Sources are about to hold more: it is no time to give up.
    pub fn hope(&mut self, now: Duration) {
        self.last_hope = now;
    }

    /// There is a new token: sources that refused the old one may be asked again.
    pub fn token_renewed(&mut self) {
        self.sources.iter_mut().for_each(|seat| seat.health.refused = false);
    }

    /// This much of the request's first chunk is there already.
    pub fn continues(&mut self, request: RequestId, bytes: u64) {
        if let Some(held) = self.requests.get_mut(&request) {
            held.begun_with = bytes;
        }
    }

    /// The request is about to end: how many bytes of an unfinished chunk will not be fetched again.
    pub fn keeps(&mut self, request: RequestId, bytes: impl FnOnce(u32) -> u64) {
        if let Some(held) = self.requests.get_mut(&request).filter(|held| !held.run.is_empty()) {
            held.kept = bytes(held.run.start);
        }
    }

    /// The request was answered as it should be.
    pub fn answered(&mut self, request: RequestId, now: Duration) {
        let Some(held) = self.requests.get_mut(&request) else { return };
        held.answered = true;
        held.heard = now;
        let latency = now.saturating_sub(held.started);
        if let Some(seat) = self.sources.get_mut(held.source) {
            seat.health.answered();
            seat.rate.latency = latency;
        }
    }

    /// The request has received this many bytes in all.
    pub fn received(&mut self, request: RequestId, bytes: u64, now: Duration) {
        let Some(held) = self.requests.get_mut(&request) else { return };
        let new = bytes.saturating_sub(held.received);
        if new == 0 {
            return;
        }
        held.received = bytes;
        held.heard = now;
        self.last_received = now;
        self.since_verified = self.since_verified.saturating_add(new);
        if let Some(seat) = self.sources.get_mut(held.source) {
            seat.rate.add(new);
        }
    }

    /// The request has verified its next chunk. Returns whether its source had been failing until now.
    pub fn verified(&mut self, request: RequestId, chunk: u32, now: Duration) -> bool {
        let Some(held) = self.requests.get_mut(&request) else { return false };
        debug_assert_eq!(held.run.start, chunk, "a request verifies its chunks in order");
        held.run.start = held.run.end.min(chunk + 1);
        held.counted += len_of(self.layout, chunk..chunk + 1);
        self.verified.insert(chunk..chunk + 1);
        self.last_verified = now;
        let (source, started, received) = (held.source, held.started, held.counted.saturating_sub(held.begun_with));
        self.received(request, received, now);
        self.since_verified = 0;
        self.sources.get_mut(source).is_some_and(|seat| seat.health.proved(started))
    }

    /// The request will not begin chunk `end` or a later one: those are free again. Returns how many that are.
    pub fn was_cut(&mut self, request: RequestId, end: u32) -> u32 {
        let Some(held) = self.requests.get_mut(&request) else { return 0 };
        let freed = end.max(held.run.start)..held.run.end;
        if freed.is_empty() {
            held.begun = held.run.end;
            return 0;
        }
        held.run.end = freed.start;
        self.waiting.insert(freed.clone());
        self.switches += 1;
        freed.end - freed.start
    }

    /// The request runs no more; it received `received` bytes in all. Returns how many chunks it leaves to others.
    pub fn ended(&mut self, request: RequestId, end: End, received: u64, now: Duration) -> u32 {
        self.received(request, received, now);
        let Some(held) = self.requests.remove(&request) else { return 0 };
        let left = held.run.end - held.run.start;
        let wasted = held.unfinished().saturating_sub(held.kept);
        self.waste.total += wasted;
        self.waste.reserved -= held.reserved;
        self.waste.chosen += wasted.min(held.reserved);
        if !held.run.is_empty() {
            self.waiting.insert(held.run.clone());
            self.switches += 1;
        }
        let others = self.requests.values().any(|other| other.source == held.source);
        let Some(seat) = self.sources.get_mut(held.source) else { return left };
        if !others {
            seat.rate.settle(now);
        }
        match (end, held.leaving) {
            (End::Failed(fault), _) => {
                if fault == Fault::NotHeld {
                    seat.runs.remove(held.run);
                }
                seat.health.failed(fault, now);
            }
            (End::Abandoned, Some(Leaving::Stalled)) => seat.health.failed(Fault::Broken, now),
            (End::Abandoned | End::Finished, _) => {}
        }
        left
    }

    /// What to do now; to be called until it returns nothing.
    pub fn step(&mut self, now: Duration) -> Option<Action> {
        for (key, seat) in self.sources.iter_mut().enumerate() {
            let busy = self.requests.values().any(|held| held.source == key);
            seat.rate.tick(now, busy);
        }
        self.leave(now).or_else(|| self.assign(now)).or_else(|| self.relieve(now))
    }

    /// The sources that now have a request running.
    fn busy(&self) -> BTreeSet<SourceKey> {
        self.requests.values().map(|held| held.source).collect()
    }
}

/// Bytes in the chunks of `run`.
fn len_of(layout: Layout, run: Range<u32>) -> u64 {
    let bytes = layout.bytes_of_run(run);
    bytes.end - bytes.start
}

/// Bytes in a chunk, but never more than the file has.
fn chunk_len(layout: Layout) -> u64 {
    layout.chunk_size().min(layout.size())
}

fn intersection(a: &Runs, b: &Runs) -> Runs {
    let mut both = a.clone();
    let end = a.iter().last().map_or(0, |run| run.end);
    b.gaps(0..end).iter().for_each(|gap| both.remove(gap));
    both
}
