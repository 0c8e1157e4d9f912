//! Log-ins that fail, counted before they are written down: a flood of them is a few rows a minute.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    app::State,
    store::{
        Store,
        audit::{self, Deed, Kind},
    },
};

const EVERY: Duration = Duration::from_secs(60);
/// Kinds, accounts and addresses told apart between two writes; what comes beyond is counted without account and address.
const APART: usize = 32;

type Key = (Kind, Option<i64>, Option<IpAddr>);

/// What was not written down yet.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Key, u64>>);

impl Tally {
    /// Counts one more. `user` is the account, if there is one: what else was typed for a name may be a password.
    pub(crate) fn count(&self, kind: Kind, user: Option<i64>, address: Option<IpAddr>) {
        self.add((kind, user, address), 1);
    }

    /// Writes down what was counted.
    pub(crate) async fn write_down(&self, store: &Store) -> sqlx::Result<()> {
        let counted = std::mem::take(&mut *self.lock());
        if counted.is_empty() {
            return Ok(());
        }
        let deeds =
            counted.iter().map(|(&(kind, user, address), &count)| Deed::new(kind).by(user, address).times(count));
        let written = write(store, &deeds.collect::<Vec<_>>()).await;
        if written.is_err() {
            counted.into_iter().for_each(|(key, count)| self.add(key, count));
        }
        written
    }

    fn add(&self, key: Key, more: u64) {
        let mut counted = self.lock();
        let known = counted.len() < APART || counted.contains_key(&key);
        *counted.entry(if known { key } else { (key.0, None, None) }).or_default() += more;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(store: &Store, deeds: &[Deed]) -> sqlx::Result<()> {
    let mut write = store.write().await?;
    audit::record(&mut write, deeds, Timestamp::now()).await?;
    write.commit().await
}

/// Writes down what was counted, now and then and at the end.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        let stopped = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none();
        if let Err(error) = state.tally.write_down(&state.store).await {
            tracing::warn!("cannot write the audit log for now: {error:#}");
        }
        if stopped {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_counts_and_none_is_lost() {
        let tally = Tally::default();
        for n in 0..100_000_u32 {
            tally.count(Kind::LoginFailed, None, Some(IpAddr::from(n.to_be_bytes())));
        }
        let counted = tally.lock();
        assert_eq!(counted.len(), APART + 1);
        assert_eq!(counted.values().sum::<u64>(), 100_000);
    }
}
