//! The second decision: which source receives which waiting chunks.

use std::{cmp::Reverse, ops::Range, time::Duration};

use super::{
    Action, Schedule,
    estimate::transfer_time,
    extent::{chunk_len, intersection, len_of},
    health::PROBE_INTERVAL,
    rebalance::LATE_FACTOR,
    request::{Request, RequestId},
    source::SourceId,
};

/// Bytes in a request to a source whose rate is not known yet.
const FIRST_REQUEST_BYTES: u64 = 4 << 20;
/// Most bytes in a request: few enough that abandoning it is cheap.
const MAX_REQUEST_BYTES: u64 = 16 << 20;
/// Rate in bytes per second that each request at a source must receive before the source gets more requests than every
/// source gets: a request that receives little looks stalled.
pub(super) const MIN_RATE_PER_REQUEST: u64 = 256 << 10;
/// Rate in bytes per second that a request should receive of our own limit.
const MIN_SHARE_OF_LIMIT: u64 = 64 << 10;
/// Time without a wait for our own limit after which the requests in flight do not use it up.
const LIMIT_CHECK_TIME: Duration = Duration::from_secs(1);
/// Time that a request should take.
const TARGET_REQUEST_TIME: Duration = Duration::from_millis(300);

impl Schedule {
    /// Bounds the requests in flight by our own limit, in bytes per second.
    #[must_use]
    pub fn with_limit(self, rate: u64) -> Self {
        let max_requests = usize::try_from(rate / MIN_SHARE_OF_LIMIT).unwrap_or(usize::MAX).max(1);
        Self { max_requests_by_limit: Some(max_requests), ..self }
    }

    /// Gives a waiting run to a source that has a free slot.
    pub(super) fn assign(&mut self, now: Duration) -> Option<Action> {
        if self.waiting.is_empty() {
            return None;
        }
        let available = self.available_sources(now);
        let reserved = self.reserved_for.take_if(|reserved| self.waiting.contains(reserved.chunk));
        let reserved = reserved
            .filter(|reserved| available.contains(&reserved.source) && self.may_serve(reserved.source, reserved.chunk))
            .filter(|reserved| self.may_supply(reserved.source, reserved.chunk));
        let (source, run) = match reserved {
            Some(reserved) => (reserved.source, reserved.chunk..reserved.chunk + 1),
            None => available.into_iter().find_map(|source| {
                let run = self.next_run_for(source).or_else(|| self.speed_trial(source, now))?;
                Some((source, run))
            })?,
        };
        let request = RequestId::new(self.next_request);
        self.next_request += 1;
        self.waiting.remove(run.clone());
        self.own_contested(source, run.start);
        self.requests.insert(request, Request::new(source, run.clone(), now));
        if let Some(source) = self.source_mut(source) {
            source.rate.request_started(now);
            source.health.request_started(now);
        }
        Some(Action::Fetch { request, source, run })
    }

    /// Returns the sources that have a free slot, best first: near ones, then those that do not fail, then those with few requests,
    /// then fast ones.
    pub(super) fn available_sources(&self, now: Duration) -> Vec<SourceId> {
        let is_limit_used = self.is_limit_used(now);
        let is_last_resort = self.requests.is_empty() && !self.any_live();
        let mut available: Vec<_> = self
            .enumerated_sources()
            // A probe takes nothing of the limit while its source does not answer.
            .filter(|(_, source)| !is_limit_used || source.health.is_failing())
            .filter_map(|(id, source)| {
                let in_flight = self.requests_at(id);
                // Before the rate is known, a source that hangs should hold up one request only.
                let is_measured = source.rate.get().is_some() || source.health.is_failing();
                let limit = if is_measured { self.max_requests_at(source.rate.get().unwrap_or(0)) } else { 1 };
                let is_free = in_flight < source.health.slots(limit, is_last_resort, now);
                is_free.then(|| (source.tier, source.health.is_failing(), in_flight, Reverse(source.rate.get()), id))
            })
            .collect();
        available.sort_unstable();
        available.into_iter().map(|(.., id)| id).collect()
    }

    /// Returns true if the requests in flight are as many as our own limit can feed, and use it: with more of them each would
    /// receive too little to complete a chunk.
    fn is_limit_used(&self, now: Duration) -> bool {
        let Some(max_requests) = self.max_requests_by_limit else { return false };
        let is_live =
            |request: &&Request| self.source(request.source).is_some_and(|source| !source.health.is_failing());
        let in_flight: Vec<_> = self.requests.values().filter(is_live).collect();
        // One more after each period in which slow sources leave a part of the limit.
        let is_used = |request: &&Request| {
            request.was_limited(LIMIT_CHECK_TIME, now) || now.saturating_sub(request.started) < LIMIT_CHECK_TIME
        };
        in_flight.len() >= max_requests && in_flight.iter().any(is_used)
    }

    /// Returns how many requests may be in flight at a source that gives `rate` bytes per second.
    fn max_requests_at(&self, rate: u64) -> usize {
        let fair = usize::try_from(rate / MIN_RATE_PER_REQUEST).unwrap_or(usize::MAX);
        self.max_requests.max(self.max_requests_fast.min(fair))
    }

    /// Returns the next run to request from `source`.
    fn next_run_for(&self, source: SourceId) -> Option<Range<u32>> {
        let mut eligible = intersection(&self.waiting, &self.source(source)?.runs);
        if !self.outperforms_nearer(source) {
            self.nearer(source).for_each(|near| near.runs.iter().for_each(|run| eligible.remove(run)));
        }
        let taken = self.contests.keys().filter(|chunk| !self.may_supply(source, **chunk));
        taken.for_each(|chunk| eligible.remove(*chunk..chunk + 1));
        if self.has_begun_enough(source) {
            eligible = intersection(&eligible, &self.begun_by(source));
        }
        let first = eligible.iter().next()?;
        if self.source(source)?.health.is_failing() {
            return self.is_probe_worthwhile(source, first.start).then(|| first.start..first.start + 1);
        }
        if self.others_finish_sooner(source, first.start) {
            return None;
        }
        if self.contests.contains_key(&first.start) {
            return Some(first.start..first.start + 1);
        }
        let run = first.start..first.start + self.request_len(source).min(first.end - first.start);
        // What the sink holds of a chunk is of use only to a request that begins there.
        let end = (run.start + 1..run.end).find(|chunk| self.ends_run(*chunk)).unwrap_or(run.end);
        Some(run.start..end)
    }

    /// Returns how many chunks to request: what takes [`TARGET_REQUEST_TIME`], and less towards the end so that all sources
    /// finish together.
    fn request_len(&self, source: SourceId) -> u32 {
        let bytes = self.request_rate(source).map_or(FIRST_REQUEST_BYTES, |rate| {
            rate.saturating_mul(u64::try_from(TARGET_REQUEST_TIME.as_millis()).unwrap_or(0)) / 1000
        });
        let target = bytes.min(MAX_REQUEST_BYTES) / self.layout.chunk_size();
        let live = self.sources.iter().filter(|source| source.health.is_live()).count();
        let slots = live * self.max_requests.max(self.max_requests_fast);
        let fair = self.waiting.len() / u32::try_from(slots * 2).unwrap_or(u32::MAX).max(1);
        u32::try_from(target).unwrap_or(u32::MAX).min(fair).max(1)
    }

    /// Returns true if the other sources that may serve `chunk` would finish everything before `source` finished one chunk.
    /// Never true of the fastest source, so that some source serves the chunk.
    fn others_finish_sooner(&self, source: SourceId, chunk: u32) -> bool {
        let share = u64::try_from(self.requests_at(source) + 1).unwrap_or(1);
        let Some(rate) = self.source(source).and_then(|source| source.rate.get()) else { return false };
        let (sum, fastest) = self.rates_of_others(source, chunk);
        let one = chunk_len(self.layout);
        let others_need = transfer_time(self.bytes_left(), sum) + transfer_time(one, fastest);
        fastest > rate && transfer_time(one, rate / share) > others_need * LATE_FACTOR
    }

    /// Returns true if a failing source should receive a probe: the others have more to do than the probe may take. The rate
    /// of the source does not matter, because its failure says nothing about its rate afterwards.
    fn is_probe_worthwhile(&self, source: SourceId, chunk: u32) -> bool {
        let (sum, _) = self.rates_of_others(source, chunk);
        sum == 0 || transfer_time(self.bytes_left(), sum) >= PROBE_INTERVAL
    }

    /// Returns the rates, all together and the highest, of the other live sources that may serve `chunk`.
    fn rates_of_others(&self, source: SourceId, chunk: u32) -> (u64, u64) {
        let others = self
            .enumerated_sources()
            .filter(|(id, other)| *id != source && other.health.is_live() && self.may_serve(*id, chunk));
        let rates = others.filter_map(|(_, other)| other.rate.get());
        rates.fold((0, 0), |(sum, fastest), rate| (sum.saturating_add(rate), rate.max(fastest)))
    }

    /// Returns the bytes of all chunks that are waiting or held.
    fn bytes_left(&self) -> u64 {
        let waiting = self.waiting.iter().map(|run| len_of(self.layout, run));
        let in_flight = self.requests.values().map(|request| len_of(self.layout, request.run.clone()));
        waiting.chain(in_flight).sum()
    }
}
