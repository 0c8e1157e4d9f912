//! Files whose catalogue status is open, and orphaned files, which the catalogue does not have.

use std::collections::BTreeSet;

use sqlx::{Row as _, Sqlite, Transaction};
use wire::{FileId, server::ReconcileAnswer};

use super::{Database, DatabaseError, Durability, bytes_column, reports::note_change, stored_files::drop_file};

/// A file whose catalogue status is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) file: FileId,
    /// The assignment on record when the question was read.
    assignment: Option<AssignmentState>,
}

/// Number and state of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AssignmentState {
    seq: i64,
    state: String,
}

/// Consequences of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    /// Files whose blobs are to be removed.
    pub(crate) dropped: Vec<FileId>,
    /// Orphaned files, which are not served from now on.
    pub(crate) orphaned: Vec<FileId>,
    /// Questions that stay open.
    pub(crate) open: usize,
}

impl Database {
    /// Returns the files whose catalogue status is open, at most `limit`.
    pub(crate) async fn open_questions(&self, limit: u32) -> Result<Vec<Question>, DatabaseError> {
        let rows = sqlx::query(
            "select question.file as file, seq, state from question
             left join assignment on assignment.file = question.file order by question.file limit ?",
        )
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                let (seq, state): (Option<i64>, Option<String>) = (row.try_get("seq")?, row.try_get("state")?);
                let assignment = seq.zip(state).map(|(seq, state)| AssignmentState { seq, state });
                Ok(Question { file: bytes_column(row, "file")?, assignment })
            })
            .collect()
    }

    /// Records that a file's catalogue status is open, unless nothing of it is stored or it is orphaned.
    pub(crate) async fn question_file(&self, file: FileId) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query(
            "insert or ignore into question (file) select id from file
             where id = ?1 and not exists (select 1 from unknown where file = ?1)",
        )
        .bind(file.as_bytes().as_slice())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Stores an answer to `asked`; what it says about other files is ignored. A deletion counts only if the file's assignment
    /// is the one at the time of the question: the answer may be older than a new one.
    pub(crate) async fn settle(
        &self,
        asked: &[Question],
        answer: &ReconcileAnswer,
    ) -> Result<Settlement, DatabaseError> {
        let set = |files: &[FileId]| files.iter().copied().collect::<BTreeSet<_>>();
        let (keep, delete, unknown) = (set(&answer.keep), set(&answer.delete), set(&answer.unknown));
        let mut transaction = self.write(Durability::Synced).await?;
        let mut settled = Settlement::default();
        for question in asked {
            let file = question.file;
            if keep.contains(&file) {
                mark_known(&mut transaction, file).await?;
            } else if unknown.contains(&file) && is_job_file(&mut transaction, file).await? {
                // It was fetched from a URL, for a job that no longer exists: a later job fetches it again.
                drop_file(&mut transaction, file).await?;
                settled.dropped.push(file);
            } else if unknown.contains(&file) {
                let sql = "insert or ignore into unknown (file) select id from file where id = ?";
                if execute(&mut transaction, sql, file).await? > 0 {
                    settled.orphaned.push(file);
                }
            } else if delete.contains(&file) && assignment(&mut transaction, file).await? == question.assignment {
                let sql = "insert into assignment (file, seq, state) values (?, 0, 'removed')
                           on conflict (file) do update set state = 'removed' where state <> 'deleted'";
                execute(&mut transaction, sql, file).await?;
                drop_file(&mut transaction, file).await?;
                settled.dropped.push(file);
            } else {
                settled.open += 1;
                continue;
            }
            execute(&mut transaction, "delete from question where file = ?", file).await?;
        }
        transaction.commit().await?;
        Ok(settled)
    }

    /// Returns true if the file is orphaned.
    pub(crate) async fn is_orphaned(&self, file: FileId) -> Result<bool, DatabaseError> {
        let row = sqlx::query("select 1 from unknown where file = ?").bind(file.as_bytes().as_slice());
        Ok(row.fetch_optional(&self.reader).await?.is_some())
    }

    /// Returns the orphaned files.
    pub(crate) async fn orphaned_files(&self) -> Result<Vec<FileId>, DatabaseError> {
        let rows = sqlx::query("select file from unknown order by file").fetch_all(&self.reader).await?;
        rows.iter().map(|row| bytes_column(row, "file")).collect()
    }

    /// Removes an orphaned file; false when it is not one. The transaction stays open while `unlink` works, so that the file
    /// cannot be adopted meanwhile.
    pub(crate) async fn remove_orphaned(
        &self,
        file: FileId,
        unlink: impl AsyncFnOnce() -> std::io::Result<()>,
    ) -> Result<bool, DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        if execute(&mut transaction, "delete from unknown where file = ?", file).await? == 0 {
            return Ok(false);
        }
        drop_file(&mut transaction, file).await?;
        unlink().await.map_err(|error| DatabaseError::Database(sqlx::Error::Io(error)))?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns the number of orphaned files.
    pub(crate) async fn count_orphaned_files(&self) -> Result<u64, DatabaseError> {
        let count: i64 = sqlx::query_scalar("select count(*) from unknown").fetch_one(&self.reader).await?;
        super::from_sql(count)
    }
}

/// Records that every file's catalogue status is open, in the transaction of the event that is the reason.
pub(super) async fn question_all_files(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), DatabaseError> {
    sqlx::query("insert or ignore into question (file) select id from file").execute(&mut **transaction).await?;
    Ok(())
}

/// Records that the catalogue has the file. An orphaned one is an ordinary one from now on, and is reported.
pub(super) async fn mark_known(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<(), DatabaseError> {
    if execute(transaction, "delete from unknown where file = ?", file).await? > 0 {
        note_change(transaction, file).await?;
    }
    Ok(())
}

/// Returns true if the file is fetched from a URL, for a job.
async fn is_job_file(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<bool, DatabaseError> {
    let row = sqlx::query("select 1 from fetched where file = ?").bind(file.as_bytes().as_slice());
    Ok(row.fetch_optional(&mut **transaction).await?.is_some())
}

/// Returns the assignment on record.
async fn assignment(
    transaction: &mut Transaction<'_, Sqlite>,
    file: FileId,
) -> Result<Option<AssignmentState>, DatabaseError> {
    let row = sqlx::query("select seq, state from assignment where file = ?")
        .bind(file.as_bytes().as_slice())
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(|row| Ok(AssignmentState { seq: row.try_get("seq")?, state: row.try_get("state")? })).transpose()
}

/// Executes a statement about one file, and returns the number of rows it changed.
async fn execute(
    transaction: &mut Transaction<'_, Sqlite>,
    sql: &'static str,
    file: FileId,
) -> Result<u64, DatabaseError> {
    let done = sqlx::query(sql).bind(file.as_bytes().as_slice()).execute(&mut **transaction).await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use wire::{
        event::{Event, EventPayload, SCHEMA, Stream},
        id::Epoch,
    };

    use super::*;
    use crate::db::event_batches::EventBatch;

    #[tokio::test]
    async fn an_answer_drops_deleted_files_and_keeps_orphaned_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("db")).await.unwrap();
        let [kept, deleted, unknown, again, silent] = [(); 5].map(|()| FileId::new());
        for file in [kept, deleted, unknown, again, silent] {
            assert!(store.add_file(file, wire::ChunkLayout::of(5).unwrap()).await.unwrap());
        }
        let snapshot = |seq, events| {
            let epoch = Epoch::new();
            let event = |payload| Event {
                schema: SCHEMA,
                epoch,
                stream: Stream::All,
                prev: 0,
                seq,
                at: Timestamp::UNIX_EPOCH,
                payload,
            };
            (epoch, Vec::from_iter(Vec::into_iter(events).map(event)))
        };
        let (epoch, events) = snapshot(1, vec![EventPayload::ReplicaAssigned { file: again }]);
        let batch = EventBatch { epoch, events: &events, cursors: BTreeMap::new(), is_snapshot: true };
        store.apply(&batch).await.unwrap();
        let asked = store.open_questions(10).await.unwrap();
        assert_eq!(asked.len(), 5, "after a snapshot every file has an open status");

        // Meanwhile one of them is assigned anew: the answer is older than that.
        let (_, mut events) = snapshot(9, vec![EventPayload::ReplicaAssigned { file: again }]);
        events.iter_mut().for_each(|event| event.epoch = epoch);
        store
            .apply(&EventBatch { epoch, events: &events, cursors: BTreeMap::new(), is_snapshot: false })
            .await
            .unwrap();
        let stranger = FileId::new();
        let answer = ReconcileAnswer {
            keep: vec![kept],
            delete: vec![deleted, again, stranger],
            unknown: vec![unknown, stranger],
        };
        let settled = store.settle(&asked, &answer).await.unwrap();
        assert_eq!(settled, Settlement { dropped: vec![deleted], orphaned: vec![unknown], open: 2 });
        let open: BTreeSet<_> = store.open_questions(10).await.unwrap().into_iter().map(|asked| asked.file).collect();
        assert_eq!(open, [again, silent].into());
        assert!(store.is_dropped(deleted).await.unwrap() && store.file(deleted).await.unwrap().is_none());
        assert!(store.is_orphaned(unknown).await.unwrap() && store.file(unknown).await.unwrap().is_some());
        assert_eq!(store.count_orphaned_files().await.unwrap(), 1);
        store.question_file(unknown).await.unwrap();
        store.question_file(stranger).await.unwrap();
        assert_eq!(store.open_questions(10).await.unwrap().len(), 2, "neither is in question");

        // What was fetched from a URL goes with its job.
        let fetched = FileId::new();
        assert!(store.add_file(fetched, wire::ChunkLayout::of(5).unwrap()).await.unwrap());
        store.add_job_file(fetched, wire::JobId::new()).await.unwrap();
        store.question_file(fetched).await.unwrap();
        let asked: Vec<_> =
            store.open_questions(10).await.unwrap().into_iter().filter(|asked| asked.file == fetched).collect();
        let answer = ReconcileAnswer { unknown: vec![fetched], ..ReconcileAnswer::default() };
        let settled = store.settle(&asked, &answer).await.unwrap();
        assert_eq!(settled, Settlement { dropped: vec![fetched], ..Settlement::default() });
        assert!(store.job_files().await.unwrap().is_empty() && store.file(fetched).await.unwrap().is_none());

        // A catalogue of another epoch has it again.
        let (epoch, events) = snapshot(1, vec![]);
        store.apply(&EventBatch { epoch, events: &events, cursors: BTreeMap::new(), is_snapshot: true }).await.unwrap();
        let asked = store.open_questions(10).await.unwrap();
        let answer = ReconcileAnswer { keep: vec![unknown], ..ReconcileAnswer::default() };
        store.settle(&asked, &answer).await.unwrap();
        assert!(!store.is_orphaned(unknown).await.unwrap());
        store.close().await;
    }

    #[tokio::test]
    async fn a_published_file_of_a_job_is_kept_when_a_restored_catalogue_does_not_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("db")).await.unwrap();
        let file = FileId::new();
        let layout = wire::ChunkLayout::of(5).unwrap();
        assert!(store.add_file(file, layout).await.unwrap());
        store.add_job_file(file, wire::JobId::new()).await.unwrap();
        let (epoch, digest) = (Epoch::new(), wire::Digest::of(b"bytes"));
        let payload = EventPayload::FilePublished {
            file,
            size: layout.size(),
            chunk_size: layout.chunk_size(),
            root: digest,
            sha256: digest,
        };
        let event =
            Event { schema: SCHEMA, epoch, stream: Stream::All, prev: 0, seq: 1, at: Timestamp::UNIX_EPOCH, payload };
        let batch = EventBatch { epoch, events: &[event], cursors: BTreeMap::new(), is_snapshot: true };
        store.apply(&batch).await.unwrap();
        let asked = store.open_questions(10).await.unwrap();
        let answer = ReconcileAnswer { unknown: vec![file], ..ReconcileAnswer::default() };
        let settled = store.settle(&asked, &answer).await.unwrap();
        assert_eq!(settled, Settlement { orphaned: vec![file], ..Settlement::default() });
        assert!(store.file(file).await.unwrap().is_some());
        store.close().await;
    }
}
