//! The share of the rate limits that one connection may write next.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep};
use transfer::rate_limiter::{self, Bucket};

/// Limits that a share is reserved from: that of all connections, and that of the responses to one token.
pub(super) type RateLimits = [Option<Arc<Bucket>>; 2];

/// Bytes reserved from the rate limits. Dropping it gives back what was not written.
#[derive(Debug)]
pub(super) struct RateShare {
    limits: RateLimits,
    /// Bytes of the share that were not written.
    bytes: usize,
    /// Timer of the time at which they may be written; absent once that time has come.
    until: Option<Pin<Box<Sleep>>>,
}

impl RateShare {
    /// Reserves a share of at most `length` bytes; `None` where nothing limits them.
    pub(super) fn reserve(limits: RateLimits, length: usize) -> Option<Self> {
        let bytes = limits.iter().flatten().map(|limit| limit.batch_size().min(length)).min()?;
        let now = std::time::Instant::now();
        let due = limits.iter().flatten().map(|limit| limit.reserve(as_u64(bytes), now)).max().unwrap_or(now);
        let wait = rate_limiter::worthwhile_wait(due, now);
        Some(Self { limits, bytes, until: wait.map(|wait| Box::pin(tokio::time::sleep(wait))) })
    }

    /// Waits until the share may be written. Returns the bytes that are left of it.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(cx));
            self.until = None;
        }
        Poll::Ready(self.bytes)
    }

    /// Returns the time at which the share may be written, while that is waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until.as_ref().map(|until| until.deadline())
    }

    /// Counts bytes of the share that were written. Returns true if some are left.
    pub(super) const fn spend(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.bytes > 0
    }
}

impl Drop for RateShare {
    fn drop(&mut self) {
        for limit in self.limits.iter().flatten() {
            limit.give_back(as_u64(self.bytes));
        }
    }
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
