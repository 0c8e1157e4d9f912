//! A request in flight, as the scheduler sees it.

use std::{ops::Range, time::Duration};

use super::{
    fault::{RequestOutcome, SourceFault},
    source::SourceId,
};

/// Shortest time without any byte that counts as silence.
pub(super) const MIN_SILENCE: Duration = Duration::from_millis(500);

/// The number of a request, in the order of their creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

impl RequestId {
    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) source: SourceId,
    /// Chunks not yet verified; the first is being received.
    pub(super) run: Range<u32>,
    /// Chunks before this one can no longer be stolen by a truncation.
    pub(super) first_stealable: u32,
    pub(super) started: Duration,
    pub(super) is_answered: bool,
    /// Time of the answer or of the last bytes.
    pub(super) last_activity: Duration,
    /// Bytes of its first chunk that an earlier request left in the sink.
    pub(super) resumed_bytes: u64,
    pub(super) received_bytes: u64,
    /// Received bytes that passed our own limit.
    pub(super) passed_bytes: u64,
    /// Last time at which received bytes waited for our own limit.
    pub(super) last_limited: Option<Duration>,
    /// Bytes, resumed or received, in verified chunks.
    pub(super) verified_bytes: u64,
    /// Bytes of an unfinished chunk that another request will continue.
    pub(super) preserved_bytes: u64,
    /// Bytes of the waste budget set aside for stealing chunks from this request.
    pub(super) reserved_waste: u64,
    pub(super) abandoned: Option<AbandonReason>,
}

impl Request {
    pub(super) fn new(source: SourceId, run: Range<u32>, now: Duration) -> Self {
        Self {
            source,
            first_stealable: run.start + 1,
            run,
            started: now,
            is_answered: false,
            last_activity: now,
            resumed_bytes: 0,
            received_bytes: 0,
            passed_bytes: 0,
            last_limited: None,
            verified_bytes: 0,
            preserved_bytes: 0,
            reserved_waste: 0,
            abandoned: None,
        }
    }

    /// Returns the bytes in the sink of the chunk that is being received.
    pub(super) const fn unfinished_bytes(&self) -> u64 {
        (self.resumed_bytes + self.received_bytes).saturating_sub(self.verified_bytes)
    }

    /// Returns what the end of the request says about its source. `is_outdated` is true if the source was silent for so long
    /// that its rate says nothing any more.
    pub(super) fn fault(&self, outcome: RequestOutcome, is_outdated: bool, now: Duration) -> Option<SourceFault> {
        let is_silent = now.saturating_sub(self.last_activity) >= MIN_SILENCE;
        let fault = match (outcome, self.abandoned) {
            (RequestOutcome::Failed(fault), _) => fault,
            (RequestOutcome::Abandoned, Some(AbandonReason::Stalled)) if !is_silent => SourceFault::Broken,
            (RequestOutcome::Abandoned, Some(AbandonReason::Stalled)) => SourceFault::Unreachable,
            // Without a failure, a silent source would be asked again as soon as the next chunk is stolen from it.
            (RequestOutcome::Abandoned, Some(AbandonReason::Stolen)) if is_outdated => SourceFault::Unreachable,
            (RequestOutcome::Abandoned | RequestOutcome::Finished, _) => return None,
        };
        let is_reachable = fault == SourceFault::Unreachable && self.received_bytes > 0;
        Some(if is_reachable { SourceFault::Broken } else { fault })
    }

    /// Returns true if our own limit held the request back within the last `period`: its rate says nothing about its source.
    pub(super) fn was_limited(&self, period: Duration, now: Duration) -> bool {
        self.last_limited.is_some_and(|at| now.saturating_sub(at) < period)
    }

    /// Returns true if the request has chunks that it has not begun, as far as the scheduler can tell.
    pub(super) fn has_tail(&self) -> bool {
        !self.tail().is_empty()
    }

    /// Returns the chunks that a truncation can steal.
    pub(super) fn tail(&self) -> Range<u32> {
        self.first_stealable.max(self.run.start + 1)..self.run.end
    }
}

/// The reason for which a request was abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AbandonReason {
    /// Nothing, or next to nothing, arrives: the source rests.
    Stalled,
    /// A faster source receives its chunk.
    Stolen,
    /// Its source was dropped.
    SourceDropped,
}
