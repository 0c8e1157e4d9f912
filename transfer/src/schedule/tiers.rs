//! Near and far sources. A chunk that a live near source holds is not requested from a far one, unless the near ones are too
//! slow.
//!
//! That is measured: now and then a far source receives a request for one chunk, a *speed trial*, in downloads that are long
//! enough for it to matter. A far source that then gives several times what all nearer ones give together may serve from
//! then on.

use std::{ops::Range, time::Duration};

use super::{
    Schedule,
    extent::{intersection, len_of},
    source::{SourceId, SourceState},
};

/// A far source must give this many times what all nearer sources give together to serve beside them.
const FAR_RATE_FACTOR: u64 = 3;
/// Time before the first trial: until then nothing is known of the near sources.
const FIRST_TRIAL_DELAY: Duration = Duration::from_secs(2);
/// Time between two trials: the throughput of a network path changes.
const TRIAL_INTERVAL: Duration = Duration::from_secs(15);
/// A download that will end sooner than this by itself is not worth a trial.
const MIN_TIME_LEFT_FOR_TRIAL: Duration = Duration::from_secs(5);

impl Schedule {
    /// Returns true if `source` holds `chunk` and no tier excludes it from serving that chunk.
    pub(super) fn may_serve(&self, source: SourceId, chunk: u32) -> bool {
        let holds = self.source(source).is_some_and(|source| source.runs.contains(chunk));
        holds && (self.outperforms_nearer(source) || !self.nearer(source).any(|near| near.runs.contains(chunk)))
    }

    /// Returns the live sources that are nearer than `source`.
    pub(super) fn nearer(&self, source: SourceId) -> impl Iterator<Item = &SourceState> {
        let tier = self.source(source).map_or(0, |source| source.tier);
        self.sources.iter().filter(move |other| other.tier < tier && other.health.is_live())
    }

    /// Returns what all nearer sources give together, in bytes per second, once each was measured that receives requests. One
    /// that holds nothing of use receives none, and would never be measured.
    fn near_rate(&self, source: SourceId) -> Option<u64> {
        let tier = self.source(source)?.tier;
        let nearer = self.enumerated_sources().filter(|(_, near)| near.tier < tier && near.health.is_live());
        nearer
            .filter(|(id, near)| near.rate.get().is_some() || self.requests_at(*id) > 0)
            .map(|(_, near)| near.rate.get())
            .sum()
    }

    /// Returns true if `source` is so much faster than all nearer ones together that it serves beside them.
    pub(super) fn outperforms_nearer(&self, source: SourceId) -> bool {
        if self.strict_tiers {
            return false;
        }
        let far = self.source(source).and_then(|source| source.rate.get());
        far.zip(self.near_rate(source)).is_some_and(|(far, near)| far >= near.saturating_mul(FAR_RATE_FACTOR))
    }

    /// Returns one chunk for a source that nearer ones exclude, when it is time to measure that source.
    pub(super) fn speed_trial(&mut self, source: SourceId, now: Duration) -> Option<Range<u32>> {
        let state = self.source(source)?;
        let due = self.last_trial.map_or(FIRST_TRIAL_DELAY, |last| last + TRIAL_INTERVAL);
        if self.strict_tiers || now < due || !state.health.is_live() {
            return None;
        }
        let near = self.near_rate(source)?;
        let first = intersection(&self.waiting, &state.runs).iter().next()?.start;
        let left: u64 = self.waiting.iter().map(|run| len_of(self.layout, run)).sum();
        let is_long = left / near.max(1) >= MIN_TIME_LEFT_FOR_TRIAL.as_secs();
        if !is_long || !self.may_supply(source, first) || !self.nearer(source).any(|near| near.runs.contains(first)) {
            return None;
        }
        self.last_trial = Some(now);
        Some(first..first + 1)
    }
}
