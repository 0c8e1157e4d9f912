//! A limiter of what accounts share: it bounds the permits at once, and those of one account.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The permits that accounts share.
#[derive(Debug)]
pub(crate) struct Limiter {
    all: Arc<Semaphore>,
    per_account: usize,
    /// The semaphores of accounts that have a permit or wait for one.
    accounts: Mutex<BTreeMap<i64, Weak<Semaphore>>>,
}

/// One permit; it is returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Limiter {
    /// Makes a limiter of `all` permits, at most `per_account` of them for one account.
    pub(crate) fn new(all: usize, per_account: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_account, accounts: Mutex::default() }
    }

    fn account(&self, user: i64) -> Arc<Semaphore> {
        // A panic while it was held cannot leave the map half changed: every change is one insertion.
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, own| own.strong_count() > 0);
        if let Some(own) = accounts.get(&user).and_then(Weak::upgrade) {
            return own;
        }
        let own = Arc::new(Semaphore::new(self.per_account));
        accounts.insert(user, Arc::downgrade(&own));
        own
    }

    /// Returns a permit, if one is free at once.
    pub(crate) fn try_acquire(&self, user: i64) -> Option<Permit> {
        let own = self.account(user).try_acquire_owned().ok()?;
        Some(Permit { _own: own, _all: self.all.clone().try_acquire_owned().ok()? })
    }

    /// Returns a permit, or none if it did not come free in time.
    pub(crate) async fn acquire(&self, user: i64, timeout: Duration) -> Option<Permit> {
        let acquired = async {
            // The account's own permit first: a request that waits for another one of its account keeps no other account waiting.
            let own = self.account(user).acquire_owned().await.ok()?;
            Some(Permit { _own: own, _all: self.all.clone().acquire_owned().await.ok()? })
        };
        tokio::time::timeout(timeout, acquired).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_takes_what_is_its_own_and_leaves_the_rest_to_others() {
        let limiter = Limiter::new(3, 2);
        let soon = Duration::from_millis(20);
        let first = [limiter.try_acquire(1).unwrap(), limiter.acquire(1, soon).await.unwrap()];
        assert!(limiter.try_acquire(1).is_none() && limiter.acquire(1, soon).await.is_none());
        let other = limiter.try_acquire(2).unwrap();
        assert!(limiter.try_acquire(2).is_none(), "there are three altogether");
        let waiting = limiter.acquire(1, Duration::from_secs(10));
        let (waited, ()) = tokio::join!(waiting, async { drop(first) });
        assert!(waited.is_some());
        drop(waited);
        drop(other);
        assert!(limiter.try_acquire(3).is_some());
        assert_eq!(limiter.accounts.lock().unwrap().len(), 1, "an account without a permit is not remembered");
    }
}
