//! The events of requests, as the caller reports them.

use std::time::Duration;

use super::{
    ChunkOfSource, Schedule,
    extent::{chunk_len, len_of},
    fault::{RequestOutcome, SourceFault},
    request::{AbandonReason, RequestId},
};

/// Time for which a request counts as held back by our own limit.
const LIMITED_PERIOD: Duration = Duration::from_secs(1);

impl Schedule {
    /// Records how many bytes of the request's first chunk an earlier request left in the sink for it.
    pub fn set_resumed_bytes(&mut self, request: RequestId, bytes: u64) {
        if let Some(request) = self.requests.get_mut(&request) {
            request.resumed_bytes = bytes;
            let left = self.begun.remove(&request.run.start).unwrap_or(0);
            self.waste.total += left.saturating_sub(bytes);
        }
    }

    /// Records, for a request that is about to end, how many bytes of its unfinished chunk will not be fetched again.
    pub fn set_preserved_bytes(&mut self, request: RequestId, bytes: impl FnOnce(u32) -> u64) {
        if let Some(request) = self.requests.get_mut(&request).filter(|request| !request.run.is_empty()) {
            request.preserved_bytes = bytes(request.run.start);
        }
    }

    /// Records that the source answered the request correctly.
    pub fn answered(&mut self, request: RequestId, now: Duration) {
        let Some(request) = self.requests.get_mut(&request) else { return };
        request.last_activity = now;
        request.is_answered = true;
        let latency = now.saturating_sub(request.started);
        let source = request.source;
        if let Some(source) = self.source_mut(source) {
            source.health.answered();
            source.rate.latency = latency;
        }
    }

    /// Records that the request has received this many bytes in all, and that no limit holds them back.
    pub fn received(&mut self, request: RequestId, bytes: u64, now: Duration) {
        self.arrived(request, bytes, now);
        self.passed(request, bytes);
    }

    /// Records that this many of the received bytes of the request passed our own limit. The rate of the source counts these:
    /// those that arrive at once and wait for the limit say nothing about it.
    pub fn passed(&mut self, request: RequestId, bytes: u64) {
        let Some(request) = self.requests.get_mut(&request) else { return };
        let new = bytes.saturating_sub(request.passed_bytes);
        request.passed_bytes += new;
        let source = request.source;
        if let Some(source) = self.source_mut(source).filter(|_| new > 0) {
            source.rate.add(new);
        }
    }

    /// Records that bytes of the request wait for our own limit: the source is not silent, and nothing more is expected of it.
    pub fn limited(&mut self, request: RequestId, now: Duration) {
        let Some(request) = self.requests.get_mut(&request) else { return };
        request.last_activity = now;
        request.last_limited = Some(now);
        let source = request.source;
        self.last_gain = now;
        if let Some(source) = self.source_mut(source) {
            source.rate.add(0);
        }
    }

    /// Returns true if our own limit held the request back a moment ago.
    pub fn is_limited(&self, request: RequestId, now: Duration) -> bool {
        self.requests.get(&request).is_some_and(|request| request.was_limited(LIMITED_PERIOD, now))
    }

    /// Records that this many bytes of the request have arrived in all.
    pub fn arrived(&mut self, request: RequestId, bytes: u64, now: Duration) {
        let Some(request) = self.requests.get_mut(&request) else { return };
        let new = bytes.saturating_sub(request.received_bytes);
        if new == 0 {
            return;
        }
        let before = request.unfinished_bytes();
        request.received_bytes = bytes;
        request.last_activity = now;
        let source = request.source;
        if !request.run.is_empty() {
            let position = |bytes: u64| u32::try_from(bytes.min(chunk_len(self.layout))).unwrap_or(u32::MAX);
            let given = self.given.entry(ChunkOfSource { source, chunk: request.run.start }).or_default();
            let known = given.len();
            given.insert(position(before)..position(request.unfinished_bytes()));
            let gain = given.len() - known;
            self.gained_since_verified = self.gained_since_verified.saturating_add(gain.into());
            self.last_gain = if gain > 0 { now } else { self.last_gain };
        }
    }

    /// Records that the request has verified its next chunk. Returns true if its source had been failing until now.
    ///
    /// # Panics
    /// When `chunk` is not the next chunk of the request: the invariant would no longer hold.
    pub fn verified(&mut self, request: RequestId, chunk: u32, now: Duration) -> bool {
        let Some(state) = self.requests.get_mut(&request) else { return false };
        assert_eq!(state.run.start, chunk, "a request verifies its chunks in order");
        state.run.start = state.run.end.min(chunk + 1);
        state.verified_bytes += len_of(self.layout, chunk..chunk + 1);
        self.verified.insert(chunk..chunk + 1);
        self.last_verified = now;
        let (source, started) = (state.source, state.started);
        let received = state.verified_bytes.saturating_sub(state.resumed_bytes);
        self.received(request, received, now);
        self.gained_since_verified = 0;
        self.given.clear();
        self.begun.remove(&chunk);
        self.unfinished.retain(|begun| begun.chunk != chunk);
        self.end_contest(source, chunk);
        self.source_mut(source).is_some_and(|source| source.health.chunk_verified(started))
    }

    /// Records that the request will begin neither chunk `end` nor a later one, and frees those chunks. Returns how many
    /// were freed.
    pub fn truncated(&mut self, request: RequestId, end: u32) -> u32 {
        let Some(request) = self.requests.get_mut(&request) else { return 0 };
        let freed = end.max(request.run.start)..request.run.end;
        if freed.is_empty() {
            request.first_stealable = request.run.end;
            return 0;
        }
        request.run.end = freed.start;
        self.waiting.insert(freed.clone());
        self.switches += 1;
        freed.end - freed.start
    }

    /// Records that the request has ended after `received` bytes in all. Returns how many chunks it leaves to others.
    pub fn ended(&mut self, request: RequestId, outcome: RequestOutcome, received: u64, now: Duration) -> u32 {
        self.received(request, received, now);
        let Some(request) = self.requests.remove(&request) else { return 0 };
        let left = request.run.end - request.run.start;
        let wasted = request.unfinished_bytes().saturating_sub(request.preserved_bytes);
        self.waste.total += wasted;
        self.waste.reserved -= request.reserved_waste;
        self.waste.by_choice += wasted.min(request.reserved_waste);
        if !request.run.is_empty() {
            self.waiting.insert(request.run.clone());
            self.switches += 1;
            if request.received_bytes > 0 && request.unfinished_bytes() > 0 {
                self.unfinished.insert(ChunkOfSource { source: request.source, chunk: request.run.start });
            }
            if request.preserved_bytes > 0 {
                self.begun.insert(request.run.start, request.preserved_bytes);
            }
        }
        let is_last = self.requests_at(request.source) == 0;
        let Some(source) = self.source_mut(request.source) else { return left };
        if request.abandoned == Some(AbandonReason::Stolen) && !request.is_answered {
            source.rate.waited(now.saturating_sub(request.started));
        }
        let is_outdated = is_last && source.rate.is_outdated();
        if is_last {
            source.rate.finish(now);
        }
        if is_outdated {
            source.rate.forget();
        }
        let fault = request.fault(outcome, is_outdated, now);
        if fault == Some(SourceFault::NotHeld) {
            source.runs.remove(request.run.clone());
        }
        if let Some(fault) = fault {
            source.health.failed(fault, request.started, now);
        }
        self.contested_request_ended(&request, fault);
        left
    }
}
