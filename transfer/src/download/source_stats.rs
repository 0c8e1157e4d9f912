//! Counters of each source during a download, and the report made of them.

use std::time::Duration;

use wire::{catalogue::Location, grammar::counted};

use super::report::{Outcome, Report, SourceReport};
use crate::{
    progress::SourceProgress,
    schedule::{Schedule, SourceId},
};

/// Time from a loss of chunks to the notice about it: by then it is known whether the source is slow or dead.
const MOVED_NOTICE_DELAY: Duration = Duration::from_secs(1);
/// Time between two notices about a source that loses chunks to others.
const MOVED_NOTICE_INTERVAL: Duration = Duration::from_secs(5);

/// Reason of a source that was asked and gave no byte.
const SENT_NOTHING: &str = "it sent nothing";

/// The counters and the last errors of one source.
#[derive(Debug)]
pub(super) struct SourceStats {
    pub(super) location: Location,
    /// Bytes in verified chunks.
    pub(super) bytes: u64,
    /// Bytes that requests which ended had received, verified or not.
    pub(super) received: u64,
    pub(super) requests: u32,
    pub(super) failures: u32,
    /// Set after the source refused a token: the next refusal is an ordinary failure.
    pub(super) has_refused: bool,
    /// The last failure, until the source serves again.
    pub(super) failing: Option<String>,
    /// The reason for which the source gets no further request.
    pub(super) dropped: Option<String>,
    /// The chunk of which it sent wrong bytes.
    pub(super) wrong_chunk: Option<u32>,
    /// Chunks that other sources received instead since the last notice.
    moved_chunks: u32,
    /// Time since which a notice about them is due.
    moved_since: Option<Duration>,
    /// Earliest time of the next notice.
    next_notice: Duration,
}

impl SourceStats {
    pub(super) fn new(location: Location) -> Self {
        Self {
            location,
            bytes: 0,
            received: 0,
            requests: 0,
            failures: 0,
            has_refused: false,
            failing: None,
            dropped: None,
            wrong_chunk: None,
            moved_chunks: 0,
            moved_since: None,
            next_notice: Duration::ZERO,
        }
    }

    /// Counts chunks that moved to other sources. A notice follows when the source is slow.
    pub(super) fn count_moved(&mut self, chunks: u32, is_slow: bool, now: Duration) {
        self.moved_chunks += chunks;
        if self.moved_chunks > 0 && is_slow {
            self.moved_since.get_or_insert(now);
        }
    }

    /// Returns how many chunks have moved, when a notice is due: at once if the download `is_over`. A source that failed
    /// meanwhile has a notice of its own, which says more.
    pub(super) fn take_moved(&mut self, is_over: bool, now: Duration) -> Option<u32> {
        if self.failing.is_some() || self.dropped.is_some() {
            (self.moved_chunks, self.moved_since) = (0, None);
        }
        let since = self.moved_since?;
        if !is_over && (now < since + MOVED_NOTICE_DELAY || now < self.next_notice) {
            return None;
        }
        self.next_notice = now + MOVED_NOTICE_INTERVAL;
        self.moved_since = None;
        Some(std::mem::take(&mut self.moved_chunks))
    }

    pub(super) fn progress(&self, source: SourceId, schedule: &Schedule, now: Duration) -> SourceProgress {
        let Location { server, zone, .. } = &self.location;
        SourceProgress {
            server: server.clone(),
            zone: zone.clone(),
            bytes: self.bytes,
            rate: schedule.current_rate(source),
            state: schedule.activity(source, now),
        }
    }

    fn outcome(&self) -> Outcome {
        match (&self.dropped, &self.failing) {
            (Some(reason), _) => Outcome::Dropped { reason: reason.clone() },
            (None, Some(reason)) => Outcome::Failing { reason: reason.clone() },
            (None, None) if self.is_silent() => Outcome::Failing { reason: SENT_NOTHING.to_owned() },
            (None, None) => Outcome::Fine,
        }
    }

    /// Returns true if the source was asked and gave no byte.
    fn is_silent(&self) -> bool {
        self.requests > 0 && self.received == 0 && self.bytes == 0
    }

    /// Explains why the source gives nothing to a download that cannot go on after this time.
    fn reason(&self, elapsed: Duration) -> String {
        let failure = self.dropped.as_ref().or(self.failing.as_ref());
        let is_asked = self.requests > 0 || self.received > 0;
        match failure {
            Some(reason) => reason.clone(),
            None if self.is_silent() => SENT_NOTHING.to_owned(),
            None if is_asked && !self.location.runs.is_empty() => {
                format!("it sends too slowly, {} in {} s", counted(self.received, "byte"), elapsed.as_secs())
            }
            None => "holds none of the missing chunks".to_owned(),
        }
    }
}

/// Lists the last error of each source of a download that took this time.
pub(super) fn reasons(sources: &[SourceStats], elapsed: Duration) -> String {
    let describe = |source: &SourceStats| format!("{}: {}", source.location.server, source.reason(elapsed));
    if sources.is_empty() {
        "none is known".to_owned()
    } else {
        sources.iter().map(describe).collect::<Vec<_>>().join("; ")
    }
}

/// Adds up the report of a download of `size` bytes, `resumed` of which were there at the start.
pub(super) fn report(
    sources: &[SourceStats],
    schedule: &Schedule,
    size: u64,
    resumed: u64,
    elapsed: Duration,
) -> Report {
    let shares = shares(&sources.iter().map(|source| source.bytes).collect::<Vec<_>>());
    let reports = sources.iter().zip(shares).map(|(source, share_permille)| SourceReport {
        server: source.location.server.clone(),
        zone: source.location.zone.clone(),
        bytes: source.bytes,
        share_permille,
        requests: source.requests,
        failures: source.failures,
        outcome: source.outcome(),
    });
    Report {
        elapsed,
        size,
        resumed,
        fetched: sources.iter().map(|source| source.bytes).sum(),
        wasted: schedule.wasted_bytes(),
        switches: schedule.switches(),
        sources: reports.collect(),
    }
}

/// Returns each part's share in tenths of a per cent. The shares add up to 1000: what rounding down leaves goes to the largest
/// remainders.
fn shares(parts: &[u64]) -> Vec<u32> {
    let whole: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    if whole == 0 {
        return vec![0; parts.len()];
    }
    let scaled = |part: &u64| u128::from(*part) * 1000;
    let mut shares: Vec<u32> = parts.iter().map(|part| u32::try_from(scaled(part) / whole).unwrap_or(1000)).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|at| std::cmp::Reverse(parts.get(*at).map_or(0, |part| scaled(part) % whole)));
    let left = 1000_u32.saturating_sub(shares.iter().sum());
    for at in by_remainder.into_iter().take(usize::try_from(left).unwrap_or(0)) {
        if let Some(share) = shares.get_mut(at) {
            *share += 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_of_thirds_add_up() {
        assert_eq!(shares(&[1, 1, 1]), [334, 333, 333]);
        assert_eq!(shares(&[]), Vec::<u32>::new());
        assert_eq!(shares(&[0, 0]), [0, 0]);
        assert_eq!(shares(&[0, 5]), [0, 1000]);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_a_thousand(parts in proptest::collection::vec(0_u64..=u64::MAX / 2, 1..20)) {
            prop_assume!(parts.iter().any(|part| *part > 0));
            prop_assert_eq!(shares(&parts).iter().sum::<u32>(), 1000);
        }
    }
}
