//! What is known and counted of each source while a download runs.

use std::time::Duration;

use wire::catalog::Location;

use super::{Outcome, Report, SourceReport};
use crate::{
    progress::SourceLine,
    schedule::{Schedule, SourceKey},
};

/// How long nothing is said again of a source that loses chunks to others.
const MOVES_APART: Duration = Duration::from_secs(5);

/// One source's account.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) location: Location,
    pub(super) bytes: u64,
    pub(super) requests: u32,
    pub(super) failures: u32,
    /// It refused a token before: the next refusal is an ordinary failure.
    pub(super) refused: bool,
    /// How it failed last, until it serves again.
    pub(super) failing: Option<String>,
    /// Why it is not asked again.
    pub(super) dropped: Option<String>,
    /// Chunks that others took from it since that was told last, and when it may be told again.
    moves: (u32, Duration),
}

impl Line {
    pub(super) fn new(location: Location) -> Self {
        let moves = (0, Duration::ZERO);
        Self { location, bytes: 0, requests: 0, failures: 0, refused: false, failing: None, dropped: None, moves }
    }

    /// Chunks were taken from it. Returns how many, when that is worth telling.
    pub(super) fn moved(&mut self, chunks: u32, slow: bool, now: Duration) -> Option<u32> {
        let (untold, not_before) = &mut self.moves;
        *untold += chunks;
        if *untold == 0 || !slow || now < *not_before {
            return None;
        }
        *not_before = now + MOVES_APART;
        Some(std::mem::take(untold))
    }

    pub(super) fn view(&self, key: SourceKey, schedule: &Schedule, now: Duration) -> SourceLine {
        let (rate, state) = schedule.view(key, now);
        let Location { server, zone, .. } = &self.location;
        SourceLine { server: server.clone(), zone: zone.clone(), bytes: self.bytes, rate, state }
    }

    fn outcome(&self) -> Outcome {
        match (&self.dropped, &self.failing) {
            (Some(reason), _) => Outcome::Dropped { reason: reason.clone() },
            (None, Some(reason)) => Outcome::Failing { reason: reason.clone() },
            (None, None) => Outcome::Fine,
        }
    }
}

/// Why nothing comes, source by source.
pub(super) fn reasons(lines: &[Line]) -> String {
    let said = |line: &Line| {
        let reason = line.dropped.as_ref().or(line.failing.as_ref());
        format!("{}: {}", line.location.server, reason.map_or("holds none of the missing chunks", String::as_str))
    };
    if lines.is_empty() { "none is known".to_owned() } else { lines.iter().map(said).collect::<Vec<_>>().join("; ") }
}

/// The report; `resumed` bytes were there at the start.
pub(super) fn report(lines: &[Line], schedule: &Schedule, (size, resumed): (u64, u64), elapsed: Duration) -> Report {
    let fetched = lines.iter().map(|line| line.bytes).sum();
    let shares = shares(&lines.iter().map(|line| line.bytes).collect::<Vec<_>>());
    let sources = lines.iter().zip(shares).map(|(line, share_permille)| SourceReport {
        server: line.location.server.clone(),
        zone: line.location.zone.clone(),
        bytes: line.bytes,
        share_permille,
        requests: line.requests,
        failures: line.failures,
        outcome: line.outcome(),
    });
    let (wasted, switches) = (schedule.wasted(), schedule.switches());
    Report { elapsed, size, resumed, fetched, wasted, switches, sources: sources.collect() }
}

/// Each part's share in tenths of a per cent. They add to 1000: what rounding down leaves goes to the largest remainders.
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
        fn shares_add_to_a_thousand(parts in proptest::collection::vec(0_u64..=u64::MAX / 2, 1..20)) {
            prop_assume!(parts.iter().any(|part| *part > 0));
            prop_assert_eq!(shares(&parts).iter().sum::<u32>(), 1000);
        }
    }
}
