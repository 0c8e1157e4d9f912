//! Facts and cursors, always in one transaction: either both are remembered or neither.

use std::collections::BTreeMap;

use sqlx::{Row as _, Sqlite, Transaction};
use wire::{
    Digest, FileId,
    event::{Event, Fact, Stream},
    id::Epoch,
};

use super::{
    Durability, Store, StoreError, bytes_column,
    files::drop_file,
    from_sql, optional_bytes_column, reconcile,
    repair::end_repair,
    reports::note_change,
    to_sql,
    tokens::{put_grant, put_revocation},
};

/// How far this server has read each stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursors {
    /// The life of the catalogue that the numbers count in; none before the first contact.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) streams: BTreeMap<Stream, u64>,
}

impl Cursors {
    /// The highest number seen in any stream.
    pub(crate) fn highest(&self) -> u64 {
        self.streams.values().copied().max().unwrap_or(0)
    }

    /// The cursor of one stream.
    pub(crate) fn of(&self, stream: &Stream) -> u64 {
        self.streams.get(stream).copied().unwrap_or(0)
    }
}

/// Facts to remember together.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) events: &'a [Event],
    /// Where the cursors stand afterwards; they never go back within an epoch.
    pub(crate) cursors: Vec<(Stream, u64)>,
    /// Whether the events are the whole present state, so that assignments they lack are void.
    pub(crate) replaces: bool,
}

/// What has to happen outside the database once the facts are remembered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Tokens whose standing changed: forget what was cached.
    pub(crate) granted: Vec<Digest>,
    /// Files whose blobs are to be removed.
    pub(crate) dropped: Vec<FileId>,
    /// The epoch is another one: everything cached is void.
    pub(crate) new_epoch: bool,
}

impl Store {
    /// How far the streams have been read.
    pub(crate) async fn cursors(&self) -> Result<Cursors, StoreError> {
        let state = sqlx::query("select epoch from state").fetch_one(&self.reader).await?;
        let mut cursors = Cursors { epoch: optional_bytes_column(&state, "epoch")?, ..Cursors::default() };
        for row in sqlx::query("select stream, seq from cursor").fetch_all(&self.reader).await? {
            let stream = row.try_get::<&str, _>("stream")?.parse().map_err(|_| StoreError::Corrupt)?;
            cursors.streams.insert(stream, from_sql(row.try_get("seq")?)?);
        }
        Ok(cursors)
    }

    /// The info-server said what the newest fact of each stream is, and that this is all up to `as_of`: streams that have
    /// been read to their end have been read up to there. Without it a quiet stream would hold the position back, and
    /// catching up would begin with what was read long ago.
    pub(crate) async fn raise_cursors(
        &self,
        epoch: Epoch,
        newest: &BTreeMap<Stream, u64>,
        as_of: u64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        for (stream, seq) in newest {
            sqlx::query(
                "update cursor set seq = ?1 where stream = ?2 and seq >= ?3 and seq < ?1
                 and exists (select 1 from state where epoch = ?4)",
            )
            .bind(to_sql(as_of))
            .bind(stream.to_string())
            .bind(to_sql(*seq))
            .bind(epoch.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Remembers facts and cursors together.
    pub(crate) async fn apply(&self, batch: &Batch<'_>) -> Result<Effects, StoreError> {
        // What removes a blob must not be forgotten again once the blob is gone.
        let durability = if batch.events.iter().any(|event| removes(&event.fact)) {
            Durability::Synced
        } else {
            Durability::Ordered
        };
        let mut transaction = self.write(durability).await?;
        let mut effects =
            Effects { new_epoch: enter_epoch(&mut transaction, batch.epoch).await?, ..Effects::default() };
        if batch.replaces {
            sqlx::query("delete from assignment where state = 'assigned'").execute(&mut *transaction).await?;
            reconcile::ask_about_everything(&mut transaction).await?;
        }
        for event in batch.events {
            remember(&mut transaction, event, &mut effects).await?;
        }
        if batch.replaces {
            report_what_is_missing(&mut transaction).await?;
        }
        for (stream, seq) in &batch.cursors {
            sqlx::query(
                "insert into cursor (stream, seq) values (?, ?)
                 on conflict (stream) do update set seq = max(excluded.seq, cursor.seq)",
            )
            .bind(stream.to_string())
            .bind(to_sql(*seq))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(effects)
    }
}

/// A catalogue that was put back may count replicas that are gone from here meanwhile.
async fn report_what_is_missing(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
    let missing = sqlx::query(
        "select file from assignment where state = 'assigned' and not exists (select 1 from file where id = assignment.file)",
    )
    .fetch_all(&mut **transaction)
    .await?;
    for row in missing {
        note_change(transaction, bytes_column(&row, "file")?).await?;
    }
    Ok(())
}

const fn removes(fact: &Fact) -> bool {
    matches!(fact, Fact::FileDeleted { .. } | Fact::ReplicaRemoved { .. })
}

/// A new life of the catalogue voids cursors and grants. Revocations and verified bytes stay: they do no harm.
async fn enter_epoch(transaction: &mut Transaction<'_, Sqlite>, epoch: Epoch) -> Result<bool, StoreError> {
    let changed = sqlx::query("update state set epoch = ?1 where epoch is not ?1")
        .bind(epoch.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    if changed == 0 {
        return Ok(false);
    }
    sqlx::query("delete from cursor").execute(&mut **transaction).await?;
    sqlx::query("delete from token where body is not null").execute(&mut **transaction).await?;
    sqlx::query("update token set seq = 0").execute(&mut **transaction).await?;
    // What was deleted in the other life may be wanted in this one: it is not to be fetched, but may be assigned.
    sqlx::query("update assignment set seq = 0, state = iif(state = 'deleted', 'removed', state)")
        .execute(&mut **transaction)
        .await?;
    reconcile::ask_about_everything(transaction).await?;
    Store::report_everything(transaction).await?;
    Ok(true)
}

async fn remember(
    transaction: &mut Transaction<'_, Sqlite>,
    event: &Event,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    match &event.fact {
        Fact::TokenGranted { grants } => {
            for grant in grants {
                put_grant(transaction, grant, event.seq).await?;
                effects.granted.push(grant.token_hash);
            }
        }
        Fact::TokenRevoked { tokens } => {
            for revocation in tokens {
                put_revocation(transaction, revocation, event.seq).await?;
            }
        }
        Fact::FileDeleted { file } => assign(transaction, (*file, event.seq, "deleted"), effects).await?,
        Fact::ReplicaRemoved { file } => assign(transaction, (*file, event.seq, "removed"), effects).await?,
        Fact::ReplicaAssigned { file } => {
            reconcile::is_known(transaction, *file).await?;
            assign(transaction, (*file, event.seq, "assigned"), effects).await?;
        }
        Fact::FilePublished { file, .. } => reconcile::is_known(transaction, *file).await?,
        // A hint is acted upon while it is fresh and not remembered.
        Fact::SpansWaiting { .. } | Fact::Unknown => {}
    }
    Ok(())
}

/// The highest number wins, but nothing follows a deletion.
async fn assign(
    transaction: &mut Transaction<'_, Sqlite>,
    (file, seq, state): (FileId, u64, &str),
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let changed = sqlx::query(
        "insert into assignment (file, seq, state) values (?, ?, ?)
         on conflict (file) do update set seq = excluded.seq, state = excluded.state
         where assignment.state <> 'deleted' and (excluded.seq > assignment.seq or excluded.state = 'deleted')",
    )
    .bind(file.as_bytes().as_slice())
    .bind(to_sql(seq))
    .bind(state)
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    if changed > 0 && state != "assigned" {
        drop_file(transaction, file).await?;
        end_repair(transaction, file).await?;
        // Also without a row: bytes may lie there that a lost database knew.
        effects.dropped.push(file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use wire::{
        TokenId,
        event::SCHEMA,
        token::{Grant, Purpose, Revocation},
    };

    use super::*;
    use crate::store::Standing;

    fn event(epoch: Epoch, seq: u64, fact: Fact) -> Event {
        Event { schema: SCHEMA, epoch, stream: Stream::All, prev: seq - 1, seq, at: Timestamp::UNIX_EPOCH, fact }
    }

    #[tokio::test]
    async fn a_snapshots_deletion_drops_a_file_whatever_was_heard_of_it_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).await.unwrap();
        let (epoch, layout) = (Epoch::new(), wire::Layout::of(5).unwrap());
        let [assigned, unassigned, stray] = [(); 3].map(|()| FileId::new());
        for file in [assigned, unassigned] {
            assert!(store.add_file(file, layout).await.unwrap());
        }
        let later = [event(epoch, 9, Fact::ReplicaAssigned { file: assigned })];
        let batch = Batch { epoch, events: &later, cursors: vec![(Stream::All, 9)], replaces: false };
        store.apply(&batch).await.unwrap();
        // The numbers of a snapshot's lines are older than what the cursors say.
        let deletions = [assigned, unassigned, stray].map(|file| event(epoch, 1, Fact::FileDeleted { file }));
        let batch = Batch { epoch, events: &deletions, cursors: vec![(Stream::All, 12)], replaces: true };
        assert_eq!(store.apply(&batch).await.unwrap().dropped, [assigned, unassigned, stray]);
        assert!(store.files().await.unwrap().is_empty());
        assert!(!store.add_file(stray, layout).await.unwrap(), "deleted is deleted");
        assert!(store.apply(&batch).await.unwrap().dropped.is_empty(), "again");
        store.close().await;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Duplicates, reordering and replays change nothing: the highest number about a subject wins.
        #[test]
        fn the_order_of_arrival_does_not_matter(order in prop::collection::vec(0..6usize, 6..14), shuffled in Just([0, 1, 2, 3, 4, 5usize]).prop_shuffle()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let store = Store::open(&folder.path().join("db")).await.unwrap();
                let (epoch, file, gone) = (Epoch::new(), FileId::new(), FileId::new());
                let (kept, revoked) = (Digest::of(b"kept"), Digest::of(b"revoked"));
                let grant = |token_hash| Grant {
                    token_hash, token_id: TokenId::new(), file, zones: None, expires_at: Timestamp::MAX, purpose: Purpose::Download,
                };
                let revocation = Revocation { token_hash: revoked, token_id: TokenId::new(), expires_at: Timestamp::MAX };
                let log = [
                    event(epoch, 1, Fact::TokenGranted { grants: vec![grant(kept), grant(revoked)] }),
                    event(epoch, 2, Fact::TokenRevoked { tokens: vec![revocation] }),
                    event(epoch, 3, Fact::ReplicaAssigned { file }),
                    event(epoch, 4, Fact::ReplicaRemoved { file }),
                    event(epoch, 5, Fact::FileDeleted { file: gone }),
                    event(epoch, 6, Fact::ReplicaAssigned { file: gone }),
                ];
                // Each at least once, whatever comes twice.
                for index in order.into_iter().chain(shuffled) {
                    let events = [log[index].clone()];
                    store.apply(&Batch { epoch, events: &events, cursors: vec![(Stream::All, events[0].seq)], replaces: false }).await.unwrap();
                }
                assert!(matches!(store.token(kept).await.unwrap(), Some(Standing::Granted(_))));
                assert_eq!(store.token(revoked).await.unwrap(), Some(Standing::Revoked));
                assert!(store.is_unwanted(file).await.unwrap() && store.is_unwanted(gone).await.unwrap());
                assert_eq!(store.cursors().await.unwrap().of(&Stream::All), 6);
                store.close().await;
            });
        }
    }
}
