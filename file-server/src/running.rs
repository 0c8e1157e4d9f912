//! The bodies being sent, by token, so that a revocation can cut them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;
use transfer::pace::Bucket;
use wire::Digest;

/// The bodies being sent.
#[derive(Debug, Default)]
pub(crate) struct Running {
    by_token: Mutex<HashMap<Digest, Shared>>,
    count: AtomicU64,
    /// Bytes a second for each token.
    rate: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    cut: CancellationToken,
    bodies: usize,
    bucket: Option<Arc<Bucket>>,
}

/// One body being sent; it counts until it is dropped, which is when the connection has taken its last piece.
#[derive(Debug)]
pub(crate) struct Body {
    running: Arc<Running>,
    token: Digest,
    cut: CancellationToken,
    bucket: Option<Arc<Bucket>>,
}

impl Running {
    /// No bodies yet; those of one token get `rate` bytes a second together.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, ..Self::default() }
    }

    /// Notes a body. To be called *before* the token is judged: a revocation that comes after the judgement finds it.
    pub(crate) fn enter(self: &Arc<Self>, token: Digest) -> Body {
        let mut by_token = self.lock();
        let shared = by_token.entry(token).or_insert_with(|| {
            let bucket = self.rate.map(|rate| Arc::new(Bucket::new(rate)));
            Shared { cut: CancellationToken::new(), bodies: 0, bucket }
        });
        shared.bodies += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
        Body { running: self.clone(), token, cut: shared.cut.clone(), bucket: shared.bucket.clone() }
    }

    /// Cuts all bodies of a token; answers how many.
    pub(crate) fn cut(&self, token: &Digest) -> usize {
        // Taken out of the map, so that a body that enters later is judged by what is known then.
        self.lock().remove(token).map_or(0, |shared| {
            shared.cut.cancel();
            shared.bodies
        })
    }

    /// How many bodies are being sent.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Shared>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body {
    /// Cancelled when the body must end.
    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.cut
    }

    /// What the bodies of its token share.
    pub(crate) const fn bucket(&self) -> Option<&Arc<Bucket>> {
        self.bucket.as_ref()
    }

    /// Whether the body must end now.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.running.count.fetch_sub(1, Ordering::Relaxed);
        let mut by_token = self.running.lock();
        // One that was cut is not the one that others entered later.
        if let Some(shared) = by_token.get_mut(&self.token).filter(|_| !self.cut.is_cancelled()) {
            shared.bodies -= 1;
            if shared.bodies == 0 {
                by_token.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_cuts_exactly_the_bodies_of_its_token() {
        let running = Arc::new(Running::default());
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let bodies = [running.enter(one), running.enter(one), running.enter(other)];
        assert_eq!(running.count(), 3);
        assert_eq!(running.cut(&one), 2);
        assert_eq!(bodies.each_ref().map(Body::is_cut), [true, true, false]);
        let later = running.enter(one);
        drop(bodies);
        assert!(!later.is_cut());
        assert_eq!((running.count(), running.lock().len()), (1, 1));
        drop(later);
        assert!(running.lock().is_empty());
    }
}
