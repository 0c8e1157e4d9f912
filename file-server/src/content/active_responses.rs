//! The responses being sent, by token, so that a revocation can end them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use chunk_store::ResponseControl;
use tokio_util::sync::CancellationToken;
use transfer::rate_limiter::Bucket;
use wire::Digest;

/// The responses being sent.
#[derive(Debug, Default)]
pub(crate) struct ActiveResponses {
    by_token: Mutex<HashMap<Digest, TokenResponses>>,
    count: AtomicU64,
    /// Bytes a second for each token.
    rate: Option<u64>,
}

/// The responses to the holder of one token.
#[derive(Debug)]
struct TokenResponses {
    cancellation: CancellationToken,
    count: usize,
    rate_limit: Option<Arc<Bucket>>,
}

/// One response being sent; it counts until it is dropped, which is when the connection has taken its last piece.
#[derive(Debug)]
pub(crate) struct ActiveResponse {
    all: Arc<ActiveResponses>,
    token: Digest,
    cancellation: CancellationToken,
    rate_limit: Option<Arc<Bucket>>,
}

impl ActiveResponses {
    /// Returns an empty set; the responses of one token get `rate` bytes a second together.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, ..Self::default() }
    }

    /// Adds a response. To be called *before* the token is checked: a revocation that comes after the check finds it.
    pub(crate) fn enter(self: &Arc<Self>, token: Digest) -> ActiveResponse {
        let mut by_token = self.lock();
        let responses = by_token.entry(token).or_insert_with(|| {
            let rate_limit = self.rate.map(|rate| Arc::new(Bucket::new(rate)));
            TokenResponses { cancellation: CancellationToken::new(), count: 0, rate_limit }
        });
        responses.count += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
        ActiveResponse {
            all: self.clone(),
            token,
            cancellation: responses.cancellation.clone(),
            rate_limit: responses.rate_limit.clone(),
        }
    }

    /// Ends all responses of a token, and returns their number.
    pub(crate) fn cancel(&self, token: &Digest) -> usize {
        // Taken out of the map, so that a response that enters later is not affected: its token is checked anew.
        self.lock().remove(token).map_or(0, |responses| {
            responses.cancellation.cancel();
            responses.count
        })
    }

    /// Returns the number of responses being sent.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, TokenResponses>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResponseControl for ActiveResponse {
    fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    fn rate_limit(&self) -> Option<&Arc<Bucket>> {
        self.rate_limit.as_ref()
    }
}

impl Drop for ActiveResponse {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Ordering::Relaxed);
        let mut by_token = self.all.lock();
        // A cancelled response is not among those that entered later.
        if let Some(responses) = by_token.get_mut(&self.token).filter(|_| !self.cancellation.is_cancelled()) {
            responses.count -= 1;
            if responses.count == 0 {
                by_token.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_cuts_exactly_the_responses_of_its_token() {
        let all = Arc::new(ActiveResponses::default());
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let responses = [all.enter(one), all.enter(one), all.enter(other)];
        assert_eq!(all.count(), 3);
        assert_eq!(all.cancel(&one), 2);
        let cancelled = responses.each_ref().map(|response| response.cancellation().is_cancelled());
        assert_eq!(cancelled, [true, true, false]);
        let later = all.enter(one);
        drop(responses);
        assert!(!later.cancellation().is_cancelled());
        assert_eq!((all.count(), all.lock().len()), (1, 1));
        drop(later);
        assert!(all.lock().is_empty());
    }
}
