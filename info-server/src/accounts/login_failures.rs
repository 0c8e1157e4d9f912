//! Log-ins that fail, counted before they are stored: a flood of them is a few rows a minute.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    db::{self, Database},
};

/// Distinct kinds, accounts and addresses between two flushes; what comes beyond is counted without account and address.
const MAX_DISTINCT: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: AuditKind,
    user: Option<i64>,
    address: Option<IpAddr>,
}

/// Counts that are not stored yet.
#[derive(Debug, Default)]
pub(crate) struct LoginFailureBuffer(Mutex<BTreeMap<Key, u64>>);

impl LoginFailureBuffer {
    /// Counts one more. `user` is the account, if there is one: what else was typed for a name may be a password.
    pub(crate) fn count(&self, kind: AuditKind, user: Option<i64>, address: Option<IpAddr>) {
        self.add(Key { kind, user, address }, 1);
    }

    /// Stores what was counted; keeps it when that fails.
    pub(crate) async fn flush(&self, db: &Database) -> db::Result<()> {
        let counted = std::mem::take(&mut *self.lock());
        if counted.is_empty() {
            return Ok(());
        }
        let entry = |(key, count): (&Key, &u64)| AuditEntry::new(key.kind).by(key.user, key.address).times(*count);
        let stored = store(db, &counted.iter().map(entry).collect::<Vec<_>>()).await;
        if stored.is_err() {
            counted.into_iter().for_each(|(key, count)| self.add(key, count));
        }
        stored
    }

    fn add(&self, key: Key, more: u64) {
        let mut counted = self.lock();
        let fits = counted.len() < MAX_DISTINCT || counted.contains_key(&key);
        let key = if fits { key } else { Key { user: None, address: None, ..key } };
        *counted.entry(key).or_default() += more;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn store(db: &Database, entries: &[AuditEntry]) -> db::Result<()> {
    let mut write = db.write().await?;
    audit::record(&mut write, entries, Timestamp::now()).await?;
    write.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_counts_and_none_is_lost() {
        let buffer = LoginFailureBuffer::default();
        for n in 0..100_000_u32 {
            buffer.count(AuditKind::LoginFailed, None, Some(IpAddr::from(n.to_be_bytes())));
        }
        let counted = buffer.lock();
        assert_eq!(counted.len(), MAX_DISTINCT + 1);
        assert_eq!(counted.values().sum::<u64>(), 100_000);
    }
}
