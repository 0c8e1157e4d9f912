//! The choices: whom to leave, whom to ask for what, and from whom to take work away.

use std::{cmp::Reverse, ops::Range, time::Duration};

use wire::Layout;

use super::{Action, Held, Leaving, RequestId, Schedule, SourceKey, chunk_len, intersection, len_of};

/// Bytes to ask a source for before its rate is known.
const FIRST_REQUEST: u64 = 4 << 20;
/// The most to ask for at once: small enough to abandon.
const LARGEST_REQUEST: u64 = 16 << 20;
/// What each request at a source must get, in bytes per second, for there to be more of them than there are in any case: one that
/// is sent little looks stalled.
pub(super) const FAIR_RATE: u64 = 256 << 10;
/// How long a request should take.
const REQUEST_TIME: Duration = Duration::from_millis(300);
/// More than one frame of a body holds: what a request that was cut may have received beyond the cut.
const BUFFERED: u64 = 512 << 10;
/// A request is late when it needs this much longer than another source would.
const LATE_FACTOR: u32 = 2;
const LATE_MARGIN: Duration = Duration::from_millis(100);
/// After this long, a source with next to no throughput counts as stalled if another could serve.
const CRAWL_TIME: Duration = Duration::from_secs(2);
/// Next to no throughput, in bytes per second.
const CRAWL_RATE: u64 = 16 << 10;
/// A source this many times slower than another that could serve is as good as stalled.
const FAR_UNDER: u32 = 20;

impl Schedule {
    /// A request that must be left: its source was dropped, sends nothing, or next to nothing while another could serve.
    pub(super) fn leave(&mut self, now: Duration) -> Option<Action> {
        let (&request, why) = self.requests.iter().filter(|(_, held)| held.leaving.is_none()).find_map(|found| {
            let seat = self.sources.get(found.1.source)?;
            let silent = now.saturating_sub(found.1.heard) >= seat.health.patience(found.1.received > 0);
            match () {
                () if seat.health.dropped() => Some((found.0, Leaving::Dropped)),
                () if silent || self.crawls(found.1, now) => Some((found.0, Leaving::Stalled)),
                () => None,
            }
        })?;
        self.requests.get_mut(&request)?.leaving = Some(why);
        Some(Action::Abandon { request })
    }

    /// Only what would otherwise keep a source of a higher tier from helping: within a tier, chunks are taken over.
    fn crawls(&self, held: &Held, now: Duration) -> bool {
        let Some(seat) = self.sources.get(held.source) else { return false };
        let Some(rate) = seat.rate.get().filter(|_| now.saturating_sub(held.started) >= CRAWL_TIME) else {
            return false;
        };
        self.sources.iter().any(|other| {
            let better = other.rate.get().map_or(rate < CRAWL_RATE, |far| rate < far / u64::from(FAR_UNDER));
            other.tier > seat.tier && better && other.health.lives() && other.runs.contains(held.run.start)
        })
    }

    /// A waiting run for a source with a free slot.
    pub(super) fn assign(&mut self, now: Duration) -> Option<Action> {
        if self.waiting.is_empty() {
            return None;
        }
        let idle = self.idle(now);
        let promised = self.promised.take_if(|(_, chunk)| self.waiting.contains(*chunk));
        let promised = promised.filter(|(source, chunk)| idle.contains(source) && self.may_take(*source, *chunk));
        let (source, run) = match promised {
            Some((source, chunk)) => (source, chunk..chunk + 1),
            None => idle
                .into_iter()
                .find_map(|source| Some((source, self.run_for(source).or_else(|| self.try_far(source, now))?)))?,
        };
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.remove(run.clone());
        let held = Held {
            source,
            begun: run.start + 1,
            run: run.clone(),
            started: now,
            heard: now,
            answered: false,
            begun_with: 0,
            received: 0,
            counted: 0,
            kept: 0,
            reserved: 0,
            leaving: None,
        };
        self.requests.insert(request, held);
        if let Some(seat) = self.sources.get_mut(source) {
            seat.rate.tick(now, true);
        }
        Some(Action::Fetch { request, source, run })
    }

    /// Work that an idle source should take from a slower one: chunks not begun, or else the one being received.
    pub(super) fn relieve(&mut self, now: Duration) -> Option<Action> {
        if self.requests.is_empty() {
            return None;
        }
        let idle = self.idle(now);
        idle.into_iter().find_map(|source| self.relieve_by(source, now))
    }

    fn relieve_by(&mut self, source: SourceKey, now: Duration) -> Option<Action> {
        let rate = self.expected_rate(source)?;
        let seat = self.sources.get(source)?;
        let one = seat.rate.latency + time_for(chunk_len(self.layout), rate);
        let limit = one * LATE_FACTOR + LATE_MARGIN;
        let far = (one.saturating_mul(FAR_UNDER)).max(CRAWL_TIME);
        let (&request, _) = self
            .requests
            .iter()
            .filter(|(_, held)| held.source != source && held.leaving.is_none() && !held.run.is_empty())
            .filter(|(_, held)| self.may_take(source, held.run.end - 1) && self.time_left(held, now) >= limit)
            // Taking the chunk in flight costs what has come of it, a cut what stands in the buffers.
            .filter(|(_, held)| self.affordable(cost(self.layout, held)) || self.time_left(held, now) >= far)
            .max_by_key(|(_, held)| self.time_left(held, now))?;
        let slow = self.request_rate(self.requests.get(&request)?.source).unwrap_or(0);
        self.take_from(request, source, (slow, rate))
    }

    /// Takes the rest of a request's chunks, in parts that fit the rates of its source and of the one that takes over.
    fn take_from(&mut self, request: RequestId, taker: SourceKey, (slow, fast): (u64, u64)) -> Option<Action> {
        let reserve = cost(self.layout, self.requests.get(&request)?);
        let affordable = self.affordable(reserve);
        let held = self.requests.get_mut(&request)?;
        if !affordable {
            held.leaving = Some(Leaving::Stalled);
            return Some(Action::Abandon { request });
        }
        held.reserved += reserve;
        self.waste.reserved += reserve;
        if has_tail(held) {
            let tail = held.begun.max(held.run.start + 1)..held.run.end;
            // Both should be done at the same time.
            let keep = u64::from(tail.end - tail.start) * slow / (slow + fast).max(1);
            let end = tail.start + u32::try_from(keep).unwrap_or(0).min(tail.end - tail.start - 1);
            return Some(Action::Cut { request, end });
        }
        held.leaving = Some(Leaving::TakenOver);
        self.promised = Some((taker, held.run.start));
        Some(Action::Abandon { request })
    }

    /// Sources that may take a request, best first: near, then those with few requests, then fast.
    fn idle(&self, now: Duration) -> Vec<SourceKey> {
        let busy = self.busy();
        let last_hope = busy.is_empty() && !self.sources.iter().any(|seat| seat.health.lives());
        let mut idle: Vec<_> = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(key, seat)| {
                let running = if busy.contains(&key) { self.running(key) } else { 0 };
                // Until it is known how fast it is, one request is all that a source can hold up.
                let connections = seat.rate.get().map_or(1, |rate| self.connections_at(rate));
                let free = running < seat.health.slots(connections, last_hope, now);
                free.then(|| (seat.tier, running, Reverse(seat.rate.get()), key))
            })
            .collect();
        idle.sort_unstable();
        idle.into_iter().map(|(.., key)| key).collect()
    }

    /// Requests that may be in flight at a source that gives `rate` bytes a second.
    fn connections_at(&self, rate: u64) -> usize {
        let fair = usize::try_from(rate / FAIR_RATE).unwrap_or(usize::MAX);
        self.connections.max(self.fast_connections.min(fair))
    }

    fn running(&self, source: SourceKey) -> usize {
        self.requests.values().filter(|held| held.source == source).count()
    }

    /// The next run that `source` should be asked for.
    fn run_for(&self, source: SourceKey) -> Option<Range<u32>> {
        let seat = self.sources.get(source)?;
        let mut eligible = intersection(&self.waiting, &seat.runs);
        if !self.helps(source) {
            self.nearer(source).for_each(|near| near.runs.iter().for_each(|run| eligible.remove(run)));
        }
        let first = eligible.iter().next()?;
        if self.others_are_sooner(source, first.start) {
            return None;
        }
        let count = self.request_len(source).min(first.end - first.start);
        Some(first.start..first.start + count)
    }

    /// How many chunks to ask for: what takes some hundred milliseconds, and less towards the end so that all sources end
    /// together.
    fn request_len(&self, source: SourceKey) -> u32 {
        let bytes = self.request_rate(source).map_or(FIRST_REQUEST, |rate| {
            rate.saturating_mul(u64::try_from(REQUEST_TIME.as_millis()).unwrap_or(0)) / 1000
        });
        let wanted = bytes.min(LARGEST_REQUEST) / self.layout.chunk_size();
        let slots = self.sources.iter().filter(|seat| seat.health.lives()).count()
            * self.connections.max(self.fast_connections);
        let fair = self.waiting.len() / u32::try_from(slots * 2).unwrap_or(u32::MAX).max(1);
        u32::try_from(wanted).unwrap_or(u32::MAX).min(fair).max(1)
    }

    /// Whether other sources that may take `chunk` would finish everything before `source` finished a single one. Never true
    /// of the fastest, so that somebody takes it.
    fn others_are_sooner(&self, source: SourceKey, chunk: u32) -> bool {
        let share = u64::try_from(self.running(source) + 1).unwrap_or(1);
        let Some(rate) = self.sources.get(source).and_then(|seat| seat.rate.get()) else { return false };
        let others = self
            .sources
            .iter()
            .enumerate()
            .filter(|(key, seat)| *key != source && seat.health.lives() && self.may_take(*key, chunk));
        let (mut sum, mut fastest) = (0_u64, 0);
        for other in others.filter_map(|(_, seat)| seat.rate.get()) {
            (sum, fastest) = (sum.saturating_add(other), other.max(fastest));
        }
        let one = chunk_len(self.layout);
        let waiting = self.waiting.iter().map(|run| len_of(self.layout, run));
        let left: u64 = waiting.chain(self.requests.values().map(|held| len_of(self.layout, held.run.clone()))).sum();
        fastest > rate && time_for(one, rate / share) > (time_for(left, sum) + time_for(one, fastest)) * LATE_FACTOR
    }

    /// Whether the tiers let `source` take a chunk that it holds.
    fn may_take(&self, source: SourceKey, chunk: u32) -> bool {
        let holds = self.sources.get(source).is_some_and(|seat| seat.runs.contains(chunk));
        holds && (self.helps(source) || !self.nearer(source).any(|near| near.runs.contains(chunk)))
    }

    /// Bytes per second of one request at `source`.
    fn request_rate(&self, source: SourceKey) -> Option<u64> {
        let requests = u64::try_from(self.running(source).max(1)).unwrap_or(1);
        Some(self.sources.get(source)?.rate.get()? / requests)
    }

    /// What to expect of one more request: its own rate, or the mean of the others when it was never measured.
    fn expected_rate(&self, source: SourceKey) -> Option<u64> {
        let share = u64::try_from(self.running(source) + 1).unwrap_or(1);
        let own = self.sources.get(source)?.rate.get().map(|rate| rate / share);
        own.or_else(|| {
            let known: Vec<u64> = self.sources.iter().filter_map(|seat| seat.rate.get()).collect();
            known.iter().sum::<u64>().checked_div(u64::try_from(known.len()).ok()?)
        })
    }

    /// How long a request will still need, judged by its source's rate and by how long it has been silent.
    fn time_left(&self, held: &Held, now: Duration) -> Duration {
        let silent = now.saturating_sub(held.heard);
        let bytes = len_of(self.layout, held.run.clone()).saturating_sub(held.unfinished());
        let rate = self.request_rate(held.source).unwrap_or(u64::MAX);
        time_for(bytes, rate).saturating_add(silent * 4)
    }

    /// Whether this much more waste stays within the bound.
    fn affordable(&self, cost: u64) -> bool {
        self.waste.chosen + self.waste.reserved + cost <= waste_bound(self.layout)
    }
}

/// Whether the request has chunks that it has not begun, as far as is known here.
fn has_tail(held: &Held) -> bool {
    held.begun.max(held.run.start + 1) < held.run.end
}

/// The most bytes that taking work away from this request can waste.
fn cost(layout: Layout, held: &Held) -> u64 {
    let one = chunk_len(layout);
    if has_tail(held) { one.min(BUFFERED) } else { one }
}

/// The most bytes that may be wasted by choice: max(2 %, 2 chunks).
pub(super) fn waste_bound(layout: Layout) -> u64 {
    (layout.size() / 50).max(2 * chunk_len(layout))
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
}
