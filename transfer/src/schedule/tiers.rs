//! Near and far. What a living near source holds is not asked of a far one, unless the near ones cannot keep up.
//!
//! Whether they can is measured: now and then a far source is tried with one chunk, in downloads that are long enough for it
//! to matter. One that then gives several times what all nearer ones give together may help from then on.

use std::{ops::Range, time::Duration};

use super::{Schedule, Seat, SourceKey, intersection, len_of};

/// How many times more than all nearer sources together a far one must give to be used beside them.
const WORTH: u64 = 3;
/// Before this nothing is known of the near sources.
const FIRST_TRY: Duration = Duration::from_secs(2);
/// From one try to the next: lines change.
const TRY_EVERY: Duration = Duration::from_secs(15);
/// A download that ends sooner by itself is not worth a try.
const LONG: Duration = Duration::from_secs(5);

impl Schedule {
    /// Living sources that are nearer than `source`.
    pub(super) fn nearer(&self, source: SourceKey) -> impl Iterator<Item = &Seat> {
        let tier = self.sources.get(source).map_or(0, |seat| seat.tier);
        self.sources.iter().filter(move |other| other.tier < tier && other.health.lives())
    }

    /// What all nearer sources give together, in bytes per second; unknown before all of them were measured.
    fn near_rate(&self, source: SourceKey) -> Option<u64> {
        self.nearer(source).map(|near| near.rate.get()).sum()
    }

    /// Whether `source` is so much faster than all nearer ones that it is used beside them.
    pub(super) fn helps(&self, source: SourceKey) -> bool {
        if self.keeps_near {
            return false;
        }
        let far = self.sources.get(source).and_then(|seat| seat.rate.get());
        far.zip(self.near_rate(source)).is_some_and(|(far, near)| far >= near.saturating_mul(WORTH))
    }

    /// One chunk for a source that nearer ones keep out, when it is time to find out how fast it is.
    pub(super) fn try_far(&mut self, source: SourceKey, now: Duration) -> Option<Range<u32>> {
        let seat = self.sources.get(source)?;
        let due = self.tried_far.map_or(FIRST_TRY, |tried| tried + TRY_EVERY);
        if self.keeps_near || now < due || !seat.health.lives() {
            return None;
        }
        let near = self.near_rate(source)?;
        let first = intersection(&self.waiting, &seat.runs).iter().next()?.start;
        let left: u64 = self.waiting.iter().map(|run| len_of(self.layout, run)).sum();
        if left / near.max(1) < LONG.as_secs() || !self.nearer(source).any(|near| near.runs.contains(first)) {
            return None;
        }
        self.tried_far = Some(now);
        Some(first..first + 1)
    }
}
