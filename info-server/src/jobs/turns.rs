//! Turns at what accounts share: so many at once, and so many of one account.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;

/// What accounts share.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    /// Of those accounts alone that have a turn or wait for one.
    of: Mutex<BTreeMap<i64, Weak<Semaphore>>>,
}

/// One turn; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// `all` at once, and of each account at most `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, of: Mutex::default() }
    }

    fn own(&self, user: i64) -> Arc<Semaphore> {
        let mut of = lock(&self.of);
        of.retain(|_, own| own.strong_count() > 0);
        if let Some(own) = of.get(&user).and_then(Weak::upgrade) {
            return own;
        }
        let own = Arc::new(Semaphore::new(self.each));
        of.insert(user, Arc::downgrade(&own));
        own
    }

    /// A turn, if there is one at once.
    pub(crate) fn try_take(&self, user: i64) -> Option<Turn> {
        let own = self.own(user).try_acquire_owned().ok()?;
        Some(Turn { _own: own, _all: self.all.clone().try_acquire_owned().ok()? })
    }

    /// A turn, waited for as long as `patience`.
    pub(crate) async fn take(&self, user: i64, patience: Duration) -> Option<Turn> {
        let taken = async {
            // The own one first: whoever waits for another of their own keeps nobody else waiting.
            let own = self.own(user).acquire_owned().await.ok()?;
            Some(Turn { _own: own, _all: self.all.clone().acquire_owned().await.ok()? })
        };
        tokio::time::timeout(patience, taken).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_account_takes_what_is_its_own_and_leaves_the_rest_to_others() {
        let turns = Turns::new(3, 2);
        let soon = Duration::from_millis(20);
        let first = [turns.try_take(1).unwrap(), turns.take(1, soon).await.unwrap()];
        assert!(turns.try_take(1).is_none() && turns.take(1, soon).await.is_none());
        let other = turns.try_take(2).unwrap();
        assert!(turns.try_take(2).is_none(), "there are three altogether");
        let waits = turns.take(1, Duration::from_secs(10));
        let (waited, ()) = tokio::join!(waits, async { drop(first) });
        assert!(waited.is_some());
        drop(waited);
        drop(other);
        assert!(turns.try_take(3).is_some());
        assert_eq!(turns.of.lock().unwrap().len(), 1, "whoever has no turn is not remembered");
    }
}
