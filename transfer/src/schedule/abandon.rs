//! The first decision: which request must be abandoned because nothing useful comes of it.

use std::time::Duration;

use super::{
    Action, Schedule,
    request::{AbandonReason, Request},
};

/// Time after which a source with next to no throughput counts as stalled if another one could serve.
pub(super) const CRAWL_DETECTION_TIME: Duration = Duration::from_secs(2);
/// Throughput, in bytes per second, below which a source crawls if nothing is known of the others.
const MAX_CRAWL_RATE: u64 = 16 << 10;
/// A source that is this many times slower than another one that could serve is as good as stalled.
pub(super) const CRAWL_FACTOR: u32 = 20;

impl Schedule {
    /// Abandons a request whose source was dropped, sends nothing, or sends next to nothing while another one could serve.
    pub(super) fn abandon(&mut self, now: Duration) -> Option<Action> {
        let (&request, reason) =
            self.requests.iter().filter(|(_, request)| request.abandoned.is_none()).find_map(|(id, request)| {
                let source = self.source(request.source)?;
                let silence = now.saturating_sub(request.last_activity);
                let is_further = self.requests.range(..id).any(|(_, older)| older.source == request.source);
                let is_silent = silence >= source.health.silence_limit(request.received_bytes > 0, is_further);
                match () {
                    () if source.health.is_dropped() => Some((id, AbandonReason::SourceDropped)),
                    () if is_silent || self.crawls(request, now) => Some((id, AbandonReason::Stalled)),
                    () => None,
                }
            })?;
        self.requests.get_mut(&request)?.abandoned = Some(reason);
        Some(Action::Abandon { request })
    }

    /// Returns true if the request is so slow that a source of a higher tier should replace its own. Within a tier, the
    /// scheduler steals chunks instead.
    fn crawls(&self, request: &Request, now: Duration) -> bool {
        let Some(source) = self.source(request.source) else { return false };
        let is_measured = now.saturating_sub(request.started) >= CRAWL_DETECTION_TIME
            && !request.was_limited(CRAWL_DETECTION_TIME, now);
        let Some(rate) = source.rate.get().filter(|_| is_measured) else { return false };
        self.sources.iter().any(|other| {
            let is_faster =
                other.rate.get().map_or(rate < MAX_CRAWL_RATE, |other| rate < other / u64::from(CRAWL_FACTOR));
            other.tier > source.tier && is_faster && other.health.is_live() && other.runs.contains(request.run.start)
        })
    }
}
