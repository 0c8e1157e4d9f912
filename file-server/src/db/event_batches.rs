//! Events and cursors, always in one transaction: either both are stored or neither.

use std::collections::BTreeMap;

use sqlx::{Row as _, Sqlite, Transaction};
use wire::{
    Digest, FileId,
    event::{Event, EventPayload, Stream},
    id::Epoch,
};

use super::{
    Database, DatabaseError, Durability, bytes_column, from_sql, optional_bytes_column, reconciliation,
    repairs::end_repair,
    reports::{note_change, report_all_files},
    stored_files::drop_file,
    to_sql,
    tokens::{put_grant, put_revocation},
    url_fetches,
};

/// Position up to which this server has read each stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursors {
    /// The catalogue's epoch, in which the numbers count; none before the first contact.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) streams: BTreeMap<Stream, u64>,
}

/// Change of the epoch that a batch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EpochChange {
    /// First epoch of a data folder that followed no catalogue before.
    First,
    /// The catalogue was restored or replaced.
    Replaced,
}

impl Cursors {
    /// Returns the highest number seen in any stream.
    pub(crate) fn highest(&self) -> u64 {
        self.streams.values().copied().max().unwrap_or(0)
    }

    /// Returns the cursor of one stream.
    pub(crate) fn of(&self, stream: &Stream) -> u64 {
        self.streams.get(stream).copied().unwrap_or(0)
    }
}

/// Events to store together.
#[derive(Debug)]
pub(crate) struct EventBatch<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) events: &'a [Event],
    /// The cursors afterwards; they never go back within an epoch.
    pub(crate) cursors: BTreeMap<Stream, u64>,
    /// Set if the events are a snapshot, so that assignments they lack are void.
    pub(crate) is_snapshot: bool,
}

/// Actions outside the database that follow once the events are stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Tokens that were granted: cached entries are void.
    pub(crate) granted: Vec<Digest>,
    /// Files whose blobs are to be removed.
    pub(crate) dropped: Vec<FileId>,
    /// Set if the epoch changed: everything cached is void.
    pub(crate) epoch_change: Option<EpochChange>,
}

impl Database {
    /// Returns the position up to which the streams were read.
    pub(crate) async fn cursors(&self) -> Result<Cursors, DatabaseError> {
        let state = sqlx::query("select epoch from state").fetch_one(&self.reader).await?;
        let mut cursors = Cursors { epoch: optional_bytes_column(&state, "epoch")?, ..Cursors::default() };
        for row in sqlx::query("select stream, seq from cursor").fetch_all(&self.reader).await? {
            let stream = row.try_get::<&str, _>("stream")?.parse().map_err(|_| DatabaseError::Corrupt)?;
            cursors.streams.insert(stream, from_sql(row.try_get("seq")?)?);
        }
        Ok(cursors)
    }

    /// Raises the cursors of streams that were read to their end, which is their number in `newest`, to `as_of`: the
    /// info-server reported that there is nothing more up to there. Without it a quiet stream would hold the position back,
    /// and catching up would begin with events that were read long ago.
    pub(crate) async fn raise_cursors(
        &self,
        epoch: Epoch,
        newest: &BTreeMap<Stream, u64>,
        as_of: u64,
    ) -> Result<(), DatabaseError> {
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

    /// Stores events and cursors together.
    pub(crate) async fn apply(&self, batch: &EventBatch<'_>) -> Result<Effects, DatabaseError> {
        // An event that removes a blob must not be lost once the blob is gone.
        let durability = if batch.events.iter().any(|event| removes(&event.payload)) {
            Durability::Synced
        } else {
            Durability::Ordered
        };
        let mut transaction = self.write(durability).await?;
        let mut effects =
            Effects { epoch_change: enter_epoch(&mut transaction, batch.epoch).await?, ..Effects::default() };
        if batch.is_snapshot {
            sqlx::query("delete from assignment where state = 'assigned'").execute(&mut *transaction).await?;
            reconciliation::question_all_files(&mut transaction).await?;
        }
        for event in batch.events {
            store_event(&mut transaction, event, &mut effects).await?;
        }
        if batch.is_snapshot {
            report_missing_files(&mut transaction).await?;
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

/// Has assigned files reported that are not stored: a restored catalogue may count replicas that are gone meanwhile.
async fn report_missing_files(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), DatabaseError> {
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

/// Returns true if the event removes a file.
const fn removes(payload: &EventPayload) -> bool {
    matches!(payload, EventPayload::FileDeleted { .. } | EventPayload::ReplicaRemoved { .. })
}

/// Voids cursors and grants when the catalogue has another epoch. Revocations and verified bytes stay: they do no harm.
async fn enter_epoch(
    transaction: &mut Transaction<'_, Sqlite>,
    epoch: Epoch,
) -> Result<Option<EpochChange>, DatabaseError> {
    let is_first: bool = sqlx::query_scalar("select epoch is null from state").fetch_one(&mut **transaction).await?;
    let changed = sqlx::query("update state set epoch = ?1 where epoch is not ?1")
        .bind(epoch.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?
        .rows_affected();
    if changed == 0 {
        return Ok(None);
    }
    sqlx::query("delete from cursor").execute(&mut **transaction).await?;
    sqlx::query("delete from token where body is not null").execute(&mut **transaction).await?;
    sqlx::query("update token set seq = 0").execute(&mut **transaction).await?;
    // A file deleted in the other epoch may be wanted in this one: it is not to be fetched, but may be assigned.
    sqlx::query("update assignment set seq = 0, state = iif(state = 'deleted', 'removed', state)")
        .execute(&mut **transaction)
        .await?;
    reconciliation::question_all_files(transaction).await?;
    report_all_files(transaction).await?;
    Ok(Some(if is_first { EpochChange::First } else { EpochChange::Replaced }))
}

async fn store_event(
    transaction: &mut Transaction<'_, Sqlite>,
    event: &Event,
    effects: &mut Effects,
) -> Result<(), DatabaseError> {
    match &event.payload {
        EventPayload::TokenGranted { grants } => {
            for grant in grants {
                put_grant(transaction, grant, event.seq).await?;
                effects.granted.push(grant.token_hash);
            }
        }
        EventPayload::TokenRevoked { tokens } => {
            for revocation in tokens {
                put_revocation(transaction, revocation, event.seq).await?;
            }
        }
        EventPayload::FileDeleted { file } => assign(transaction, *file, event.seq, "deleted", effects).await?,
        EventPayload::ReplicaRemoved { file } => assign(transaction, *file, event.seq, "removed", effects).await?,
        EventPayload::ReplicaAssigned { file } => {
            reconciliation::mark_known(transaction, *file).await?;
            url_fetches::detach_complete(transaction, *file).await?;
            assign(transaction, *file, event.seq, "assigned", effects).await?;
        }
        EventPayload::FilePublished { file, .. } => {
            reconciliation::mark_known(transaction, *file).await?;
            url_fetches::detach(transaction, *file).await?;
        }
        // A hint is acted upon while it is fresh, and not stored.
        EventPayload::SpansWaiting { .. } | EventPayload::Unknown => {}
    }
    Ok(())
}

/// Stores the state of a file's assignment. The highest number wins, but nothing follows a deletion.
async fn assign(
    transaction: &mut Transaction<'_, Sqlite>,
    file: FileId,
    seq: u64,
    state: &str,
    effects: &mut Effects,
) -> Result<(), DatabaseError> {
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
        // Also without a row: bytes may be on disk that only a lost database had on record.
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
        token::{Grant, GrantPurpose, Revocation},
    };

    use super::*;
    use crate::db::tokens::TokenStatus;

    fn event(epoch: Epoch, seq: u64, payload: EventPayload) -> Event {
        Event { schema: SCHEMA, epoch, stream: Stream::All, prev: seq - 1, seq, at: Timestamp::UNIX_EPOCH, payload }
    }

    #[tokio::test]
    async fn a_snapshots_deletion_drops_a_file_whatever_events_came_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("db")).await.unwrap();
        let (epoch, layout) = (Epoch::new(), wire::ChunkLayout::of(5).unwrap());
        let [assigned, unassigned, stray] = [(); 3].map(|()| FileId::new());
        for file in [assigned, unassigned] {
            assert!(store.add_file(file, layout).await.unwrap());
        }
        let later = [event(epoch, 9, EventPayload::ReplicaAssigned { file: assigned })];
        let batch = EventBatch { epoch, events: &later, cursors: [(Stream::All, 9)].into(), is_snapshot: false };
        store.apply(&batch).await.unwrap();
        // The numbers of a snapshot's lines are older than what the cursors say.
        let deletions = [assigned, unassigned, stray].map(|file| event(epoch, 1, EventPayload::FileDeleted { file }));
        let batch = EventBatch { epoch, events: &deletions, cursors: [(Stream::All, 12)].into(), is_snapshot: true };
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
                let store = Database::open(&folder.path().join("db")).await.unwrap();
                let (epoch, file, gone) = (Epoch::new(), FileId::new(), FileId::new());
                let (kept, revoked) = (Digest::of(b"kept"), Digest::of(b"revoked"));
                let grant = |token_hash| Grant {
                    token_hash, token_id: TokenId::new(), file, zones: None, expires_at: Timestamp::MAX, purpose: GrantPurpose::Download,
                };
                let revocation = Revocation { token_hash: revoked, token_id: TokenId::new(), expires_at: Timestamp::MAX };
                let log = [
                    event(epoch, 1, EventPayload::TokenGranted { grants: vec![grant(kept), grant(revoked)] }),
                    event(epoch, 2, EventPayload::TokenRevoked { tokens: vec![revocation] }),
                    event(epoch, 3, EventPayload::ReplicaAssigned { file }),
                    event(epoch, 4, EventPayload::ReplicaRemoved { file }),
                    event(epoch, 5, EventPayload::FileDeleted { file: gone }),
                    event(epoch, 6, EventPayload::ReplicaAssigned { file: gone }),
                ];
                // Each at least once, whatever comes twice.
                for index in order.into_iter().chain(shuffled) {
                    let events = [log[index].clone()];
                    store.apply(&EventBatch { epoch, events: &events, cursors: [(Stream::All, events[0].seq)].into(), is_snapshot: false }).await.unwrap();
                }
                assert!(matches!(store.token(kept).await.unwrap(), Some(TokenStatus::Granted(_))));
                assert_eq!(store.token(revoked).await.unwrap(), Some(TokenStatus::Revoked));
                assert!(store.is_dropped(file).await.unwrap() && store.is_dropped(gone).await.unwrap());
                assert_eq!(store.cursors().await.unwrap().of(&Stream::All), 6);
                store.close().await;
            });
        }
    }
}
