//! The clocks of a job: since when nothing arrives, no worker is there, no hint was sent.
//!
//! Invariant: a timer reports that a time has passed, and changes nothing else; [`super::job::Job`] decides what follows.

use std::time::{Duration, Instant};

/// Time between two hints while there is work for a server that does not claim it.
const HINT_INTERVAL: Duration = Duration::from_secs(5);
/// Time without a byte after which the job fails.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// The same while the job waits for workers that other jobs have.
const QUEUED_STALL_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time without a server that could work on it after which the job fails.
const NO_WORKERS_TIMEOUT: Duration = Duration::from_secs(60);
/// Time that digests of an earlier attempt wait for requesters that may have the bytes already.
const REQUESTERS_FIRST: Duration = Duration::from_secs(10);
/// Time without a byte for any worker, that of two reports, after which it is the origin that is away, not one worker that is cut
/// off.
const OUTAGE_AFTER: Duration = Duration::from_secs(2);
/// Time for which the origin may stay away.
const MAX_OUTAGE: Duration = Duration::from_secs(90);

/// The times of a job.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The time at which the job began, or was read back.
    started: Instant,
    /// The time of the last chunk or byte.
    last_progress: Instant,
    last_hint: Option<Instant>,
    /// The time since which no server is there that could work on the job.
    no_workers_since: Option<Instant>,
    /// Set once known digests have stopped waiting for requesters.
    requesters_had_time: bool,
}

impl Timers {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { started: now, last_progress: now, last_hint: None, no_workers_since: None, requesters_had_time: false }
    }

    pub(crate) const fn note_start(&mut self, now: Instant) {
        self.started = now;
    }

    pub(crate) const fn note_progress(&mut self, now: Instant) {
        self.last_progress = now;
    }

    pub(crate) const fn note_hint(&mut self, now: Instant) {
        self.last_hint = Some(now);
    }

    pub(crate) fn is_hint_due(&self, now: Instant) -> bool {
        self.last_hint.is_none_or(|at| now.saturating_duration_since(at) >= HINT_INTERVAL)
    }

    /// Returns true if nothing arrived for so long that the job fails; `queued` is set if it waits for workers of other jobs.
    pub(crate) fn is_stalled(&self, queued: bool, now: Instant) -> bool {
        let timeout = if queued { QUEUED_STALL_TIMEOUT } else { STALL_TIMEOUT };
        now.saturating_duration_since(self.last_progress) >= timeout
    }

    /// Returns true if nothing arrives from the origin, and not for so long yet that it is given up.
    pub(crate) fn is_in_outage(&self, now: Instant) -> bool {
        (OUTAGE_AFTER..MAX_OUTAGE).contains(&now.saturating_duration_since(self.last_progress))
    }

    pub(crate) const fn note_workers(&mut self) {
        self.no_workers_since = None;
    }

    /// Notes that no worker is there; returns true if that was so for too long.
    pub(crate) fn note_no_workers(&mut self, now: Instant) -> bool {
        let since = *self.no_workers_since.get_or_insert(now);
        now.saturating_duration_since(since) >= NO_WORKERS_TIMEOUT
    }

    /// Returns true while digests of an earlier attempt wait for requesters that may have the bytes.
    pub(crate) fn waits_for_requesters(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) < REQUESTERS_FIRST
    }

    /// Returns true once, when that time is over.
    pub(crate) fn end_wait_for_requesters(&mut self, now: Instant) -> bool {
        if self.requesters_had_time || self.waits_for_requesters(now) {
            return false;
        }
        self.requesters_had_time = true;
        true
    }
}
