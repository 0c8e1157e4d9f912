//! Files whose standing in the catalogue is in question, and those that it does not know.

use std::collections::BTreeSet;

use sqlx::{Row as _, Sqlite, Transaction};
use wire::{Digest, FileId, server::Reconciled};

use super::{Durability, Store, StoreError, bytes_column, files::drop_file, reports::note_change};

/// A file to ask about, and what was decided about it when the question was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) file: FileId,
    decided: Option<(i64, String)>,
}

/// What an answer changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Files whose blobs are to be removed.
    pub(crate) dropped: Vec<FileId>,
    /// Files that are not served from now on.
    pub(crate) set_aside: Vec<FileId>,
    /// Questions that are to be put again.
    pub(crate) open: usize,
}

impl Store {
    /// The files that are in question, at most `limit`.
    pub(crate) async fn questions(&self, limit: u32) -> Result<Vec<Question>, StoreError> {
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
                Ok(Question { file: bytes_column(row, "file")?, decided: seq.zip(state) })
            })
            .collect()
    }

    /// Puts a file in question, unless nothing of it is here or its answer is known.
    pub(crate) async fn ask_about(&self, file: FileId) -> Result<(), StoreError> {
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

    /// Takes in an answer to `asked`; what it says of other files is passed over. A deletion counts only if nothing was
    /// decided about the file since the question was put: the answer may be older than that.
    pub(crate) async fn settle(&self, asked: &[Question], answer: &Reconciled) -> Result<Settled, StoreError> {
        let set = |files: &[FileId]| files.iter().copied().collect::<BTreeSet<_>>();
        let (keep, delete, unknown) = (set(&answer.keep), set(&answer.delete), set(&answer.unknown));
        let mut transaction = self.write(Durability::Synced).await?;
        let mut settled = Settled::default();
        for question in asked {
            let file = question.file;
            if keep.contains(&file) {
                is_known(&mut transaction, file).await?;
            } else if unknown.contains(&file) && is_fetched(&mut transaction, file).await? {
                // It was fetched from a URL, for a job that nobody knows any more: whoever wants it fetches it again.
                drop_file(&mut transaction, file).await?;
                settled.dropped.push(file);
            } else if unknown.contains(&file) {
                let sql = "insert or ignore into unknown (file) select id from file where id = ?";
                if execute(&mut transaction, sql, file).await? > 0 {
                    settled.set_aside.push(file);
                }
            } else if delete.contains(&file) && decided(&mut transaction, file).await? == question.decided {
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

    /// Whether the catalogue does not know this file.
    pub(crate) async fn is_unknown(&self, file: FileId) -> Result<bool, StoreError> {
        let row = sqlx::query("select 1 from unknown where file = ?").bind(file.as_bytes().as_slice());
        Ok(row.fetch_optional(&self.reader).await?.is_some())
    }

    /// The files that the catalogue does not know.
    pub(crate) async fn unknown(&self) -> Result<Vec<FileId>, StoreError> {
        let rows = sqlx::query("select file from unknown order by file").fetch_all(&self.reader).await?;
        rows.iter().map(|row| bytes_column(row, "file")).collect()
    }

    /// Removes a file that the catalogue does not know; false when it knows it, or nothing of it is here. Nobody can find the file
    /// known while `unlink` is at work.
    pub(crate) async fn remove_unknown(
        &self,
        file: FileId,
        unlink: impl AsyncFnOnce() -> std::io::Result<()>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write(Durability::Synced).await?;
        if execute(&mut transaction, "delete from unknown where file = ?", file).await? == 0 {
            return Ok(false);
        }
        drop_file(&mut transaction, file).await?;
        unlink().await.map_err(|error| StoreError::Database(sqlx::Error::Io(error)))?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The digests of all chunks that are here of a file, in order.
    pub(crate) async fn digests(&self, file: FileId) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query("select digest from chunk where file = ? order by n")
            .bind(file.as_bytes().as_slice())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| bytes_column(row, "digest")).collect()
    }

    /// How many files the catalogue does not know.
    pub(crate) async fn unknown_files(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("select count(*) from unknown").fetch_one(&self.reader).await?;
        super::from_sql(count)
    }
}

/// Puts every file in question, in the transaction of what gave reason to.
pub(super) async fn ask_about_everything(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
    sqlx::query("insert or ignore into question (file) select id from file").execute(&mut **transaction).await?;
    Ok(())
}

/// The catalogue knows the file; if it did not before, it must hear what is here of it.
pub(super) async fn is_known(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<(), StoreError> {
    if execute(transaction, "delete from unknown where file = ?", file).await? > 0 {
        note_change(transaction, file).await?;
    }
    Ok(())
}

async fn is_fetched(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<bool, StoreError> {
    let row = sqlx::query("select 1 from fetched where file = ?").bind(file.as_bytes().as_slice());
    Ok(row.fetch_optional(&mut **transaction).await?.is_some())
}

async fn decided(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<Option<(i64, String)>, StoreError> {
    let row = sqlx::query("select seq, state from assignment where file = ?")
        .bind(file.as_bytes().as_slice())
        .fetch_optional(&mut **transaction)
        .await?;
    row.map(|row| Ok((row.try_get("seq")?, row.try_get("state")?))).transpose()
}

async fn execute(
    transaction: &mut Transaction<'_, Sqlite>,
    sql: &'static str,
    file: FileId,
) -> Result<u64, StoreError> {
    let done = sqlx::query(sql).bind(file.as_bytes().as_slice()).execute(&mut **transaction).await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::{
        event::{Event, Fact, SCHEMA, Stream},
        id::Epoch,
    };

    use super::*;
    use crate::store::Batch;

    #[tokio::test]
    async fn an_answer_drops_what_was_deleted_and_keeps_what_nobody_knows() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).await.unwrap();
        let [kept, deleted, unknown, again, silent] = [(); 5].map(|()| FileId::new());
        for file in [kept, deleted, unknown, again, silent] {
            assert!(store.add_file(file, wire::Layout::of(5).unwrap()).await.unwrap());
        }
        let snapshot = |seq, events| {
            let epoch = Epoch::new();
            let event = |fact| Event {
                schema: SCHEMA,
                epoch,
                stream: Stream::All,
                prev: 0,
                seq,
                at: Timestamp::UNIX_EPOCH,
                fact,
            };
            (epoch, Vec::from_iter(Vec::into_iter(events).map(event)))
        };
        let (epoch, events) = snapshot(1, vec![Fact::ReplicaAssigned { file: again }]);
        let batch = Batch { epoch, events: &events, cursors: vec![], replaces: true };
        store.apply(&batch).await.unwrap();
        let asked = store.questions(10).await.unwrap();
        assert_eq!(asked.len(), 5, "after a present state everything is in question");

        // Meanwhile one of them is assigned anew: the answer is older than that.
        let (_, mut events) = snapshot(9, vec![Fact::ReplicaAssigned { file: again }]);
        events.iter_mut().for_each(|event| event.epoch = epoch);
        store.apply(&Batch { epoch, events: &events, cursors: vec![], replaces: false }).await.unwrap();
        let stranger = FileId::new();
        let answer =
            Reconciled { keep: vec![kept], delete: vec![deleted, again, stranger], unknown: vec![unknown, stranger] };
        let settled = store.settle(&asked, &answer).await.unwrap();
        assert_eq!(settled, Settled { dropped: vec![deleted], set_aside: vec![unknown], open: 2 });
        let open: BTreeSet<_> = store.questions(10).await.unwrap().into_iter().map(|asked| asked.file).collect();
        assert_eq!(open, [again, silent].into());
        assert!(store.is_unwanted(deleted).await.unwrap() && store.file(deleted).await.unwrap().is_none());
        assert!(store.is_unknown(unknown).await.unwrap() && store.file(unknown).await.unwrap().is_some());
        assert_eq!(store.unknown_files().await.unwrap(), 1);
        store.ask_about(unknown).await.unwrap();
        store.ask_about(stranger).await.unwrap();
        assert_eq!(store.questions(10).await.unwrap().len(), 2, "neither is in question");

        // What was fetched from a URL goes with its job.
        let fetched = FileId::new();
        assert!(store.add_file(fetched, wire::Layout::of(5).unwrap()).await.unwrap());
        store.note_fetched(fetched, wire::JobId::new()).await.unwrap();
        store.ask_about(fetched).await.unwrap();
        let asked: Vec<_> =
            store.questions(10).await.unwrap().into_iter().filter(|asked| asked.file == fetched).collect();
        let answer = Reconciled { unknown: vec![fetched], ..Reconciled::default() };
        let settled = store.settle(&asked, &answer).await.unwrap();
        assert_eq!(settled, Settled { dropped: vec![fetched], ..Settled::default() });
        assert!(store.fetched().await.unwrap().is_empty() && store.file(fetched).await.unwrap().is_none());

        // Another catalogue knows it again.
        let (epoch, events) = snapshot(1, vec![]);
        store.apply(&Batch { epoch, events: &events, cursors: vec![], replaces: true }).await.unwrap();
        let asked = store.questions(10).await.unwrap();
        let answer = Reconciled { keep: vec![unknown], ..Reconciled::default() };
        store.settle(&asked, &answer).await.unwrap();
        assert!(!store.is_unknown(unknown).await.unwrap());
        store.close().await;
    }
}
