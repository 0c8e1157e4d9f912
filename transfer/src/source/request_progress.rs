//! Progress of a request, which its task writes and the driver reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wire::Zone;

use crate::rate_limiter::RateLimiter;

/// Bytes of a request, and whether it waits for our own limit.
#[derive(Debug, Default)]
pub(crate) struct RequestProgress {
    arrived: AtomicU64,
    passed: AtomicU64,
    waits_for_limit: AtomicBool,
}

impl RequestProgress {
    /// Returns the bytes that arrived so far.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Returns those of the arrived bytes that passed the limit.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Returns true while arrived bytes wait for the limit: the source is not asked for more meanwhile.
    pub(crate) fn waits_for_limit(&self) -> bool {
        self.waits_for_limit.load(Ordering::Relaxed)
    }

    /// Adds bytes that arrived.
    pub(super) fn add_arrived(&self, bytes: usize) {
        self.arrived.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits until `bytes` that arrived from `zone` may be used.
    pub(super) async fn pass(&self, limiter: &RateLimiter, zone: &Zone, bytes: usize) {
        self.waits_for_limit.store(true, Ordering::Relaxed);
        limiter.acquire(zone, bytes).await;
        self.waits_for_limit.store(false, Ordering::Relaxed);
        self.passed.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
