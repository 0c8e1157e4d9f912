//! The third decision: which chunks an idle source steals from a slower one.

use std::time::Duration;

use wire::ChunkLayout;

use super::{
    Action, Reservation, Schedule,
    abandon::{CRAWL_DETECTION_TIME, CRAWL_FACTOR},
    estimate::transfer_time,
    extent::chunk_len,
    request::{AbandonReason, Request, RequestId},
    source::SourceId,
};

/// Most bytes that a truncated request may have received beyond its new end: more than one frame of a body holds.
const MAX_BYTES_PAST_TRUNCATION: u64 = 512 << 10;
/// A request is late when it needs this many times as long as another source would, and [`LATE_MARGIN`] more.
pub(super) const LATE_FACTOR: u32 = 2;
const LATE_MARGIN: Duration = Duration::from_millis(100);

/// A steal to be carried out: the victim and both rates, in bytes per second.
#[derive(Debug, Clone, Copy)]
struct Steal {
    victim: RequestId,
    victim_rate: u64,
    thief: SourceId,
    thief_rate: u64,
}

impl Schedule {
    /// Moves work from a slower source to an idle one: chunks that were not begun, or else the one that is being received.
    pub(super) fn rebalance(&mut self, now: Duration) -> Option<Action> {
        if self.requests.is_empty() {
            return None;
        }
        let steal = self.available_sources(now).into_iter().find_map(|thief| self.find_steal(thief, now))?;
        self.steal(steal)
    }

    /// Finds the request that needs longest among those from which `thief` should steal.
    fn find_steal(&self, thief: SourceId, now: Duration) -> Option<Steal> {
        let thief_rate = self.expected_rate(thief)?;
        let is_failing = |source| self.source(source).is_some_and(|source| source.health.is_failing());
        let one = self.source(thief)?.rate.latency + transfer_time(chunk_len(self.layout), thief_rate);
        let late = one * LATE_FACTOR + LATE_MARGIN;
        let as_good_as_stalled = (one.saturating_mul(CRAWL_FACTOR)).max(CRAWL_DETECTION_TIME);
        let (&victim, request) = self
            .requests
            .iter()
            .filter(|(_, request)| request.source != thief && request.abandoned.is_none() && !request.run.is_empty())
            .filter(|(_, request)| self.may_serve(thief, request.run.end - 1) && self.time_left(request, now) >= late)
            // A probe is no reason to take chunks from a source that serves.
            .filter(|(_, request)| !is_failing(thief) || is_failing(request.source))
            .filter(|(_, request)| self.may_take_over(thief, request))
            // Stealing the chunk in flight costs what has come of it; a truncation costs what stands in the buffers.
            .filter(|(_, request)| {
                self.is_affordable(steal_cost(self.layout, request))
                    || (self.time_left(request, now) >= as_good_as_stalled
                        && !request.was_limited(CRAWL_DETECTION_TIME, now))
            })
            .max_by_key(|(_, request)| self.time_left(request, now))?;
        let victim_rate = self.request_rate(request.source).unwrap_or(0);
        Some(Steal { victim, victim_rate, thief, thief_rate })
    }

    /// Steals the rest of a request's chunks, in parts that fit both rates.
    fn steal(&mut self, steal: Steal) -> Option<Action> {
        let cost = steal_cost(self.layout, self.requests.get(&steal.victim)?);
        let is_affordable = self.is_affordable(cost);
        let request = self.requests.get_mut(&steal.victim)?;
        if !is_affordable {
            request.abandoned = Some(AbandonReason::Stalled);
            return Some(Action::Abandon { request: steal.victim });
        }
        request.reserved_waste += cost;
        self.waste.reserved += cost;
        if request.has_tail() {
            let tail = request.tail();
            // Both should finish at the same time.
            let rates = (steal.victim_rate + steal.thief_rate).max(1);
            let keep = u64::from(tail.end - tail.start) * steal.victim_rate / rates;
            let end = tail.start + u32::try_from(keep).unwrap_or(0).min(tail.end - tail.start - 1);
            return Some(Action::Truncate { request: steal.victim, end });
        }
        request.abandoned = Some(AbandonReason::Stolen);
        self.reserved_for = Some(Reservation { source: steal.thief, chunk: request.run.start });
        Some(Action::Abandon { request: steal.victim })
    }

    /// Returns true if wasting `cost` more bytes stays within the bound.
    fn is_affordable(&self, cost: u64) -> bool {
        self.waste.by_choice + self.waste.reserved + cost <= waste_bound(self.layout)
    }
}

/// Returns the most bytes that stealing from this request can waste.
fn steal_cost(layout: ChunkLayout, request: &Request) -> u64 {
    let one = chunk_len(layout);
    if request.has_tail() { one.min(MAX_BYTES_PAST_TRUNCATION) } else { one }
}

/// Returns the most bytes that may be wasted by choice: max(2 %, 2 chunks).
pub(super) fn waste_bound(layout: ChunkLayout) -> u64 {
    (layout.size() / 50).max(2 * chunk_len(layout))
}
