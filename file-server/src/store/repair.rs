//! What should be here and is not, and how far the search for spoiled bytes is.

use jiff::Timestamp;
use sqlx::{Row as _, Sqlite, Transaction};
use wire::{Digest, FileId};

use super::{Durability, Store, StoreError, bytes_column, files::drop_file, optional_bytes_column, reports};

/// How far the re-reading of everything held is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ScrubProgress {
    /// When the last round that came to its end began.
    pub(crate) done_at: Option<Timestamp>,
    /// When the running round began.
    pub(crate) begun_at: Option<Timestamp>,
    /// The last file that it is done with.
    pub(crate) file: Option<FileId>,
}

impl Store {
    /// Files that should be complete here and are not, at most `limit`. In no order, so that none keeps others out for ever.
    pub(crate) async fn missing(&self, limit: u32) -> Result<Vec<FileId>, StoreError> {
        let rows = sqlx::query(
            "select wanted.file as file
             from (select file from assignment where state = 'assigned' union select file from repair) as wanted
             left join file on file.id = wanted.file
             where file.root is null order by random() limit ?",
        )
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| bytes_column(row, "file")).collect()
    }

    /// Whether the file should be complete here.
    pub(crate) async fn is_wanted(&self, id: FileId) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "select exists (select 1 from assignment where file = ?1 and state = 'assigned')
                 or exists (select 1 from repair where file = ?1)",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_one(&self.reader)
        .await?)
    }

    /// The digests of the chunks that are held, in order.
    pub(crate) async fn chunk_digests(&self, id: FileId) -> Result<Vec<(u32, Digest)>, StoreError> {
        let rows = sqlx::query("select n, digest from chunk where file = ? order by n")
            .bind(id.as_bytes().as_slice())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("n")?, bytes_column(row, "digest")?))).collect()
    }

    /// Chunks are not what they were: they are held no more, and are to be fetched again.
    pub(crate) async fn drop_chunks(&self, id: FileId, chunks: &[u32]) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Synced).await?;
        for chunk in chunks {
            sqlx::query("delete from chunk where file = ? and n = ?")
                .bind(id.as_bytes().as_slice())
                .bind(chunk)
                .execute(&mut *transaction)
                .await?;
        }
        let known = sqlx::query("update file set root = null, sha256 = null where id = ?")
            .bind(id.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if known > 0 {
            note_repair(&mut transaction, id).await?;
            reports::note_change(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// A file's bytes are gone from the disk: it is reported, and fetched again.
    pub(crate) async fn lose_file(&self, id: FileId) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Synced).await?;
        if drop_file(&mut transaction, id).await? {
            note_repair(&mut transaction, id).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The catalogue knows nothing of a file that was to be fetched again.
    pub(crate) async fn give_up_repair(&self, id: FileId) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        end_repair(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The file after `file` in the order of their ids.
    pub(crate) async fn file_after(&self, file: Option<FileId>) -> Result<Option<FileId>, StoreError> {
        let after = file.as_ref().map_or([].as_slice(), |file| file.as_bytes().as_slice());
        let row = sqlx::query("select id from file where id > ? order by id limit 1")
            .bind(after)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(|row| bytes_column(row, "id")).transpose()
    }

    /// How far the re-reading is.
    pub(crate) async fn scrub_progress(&self) -> Result<ScrubProgress, StoreError> {
        let row = sqlx::query("select done_at, begun_at, file from scrub").fetch_one(&self.reader).await?;
        let time = |column: &str| {
            let ms: Option<i64> = row.try_get(column)?;
            ms.map(Timestamp::from_millisecond).transpose().map_err(|_| StoreError::Corrupt)
        };
        Ok(ScrubProgress {
            done_at: time("done_at")?,
            begun_at: time("begun_at")?,
            file: optional_bytes_column(&row, "file")?,
        })
    }

    /// Remembers how far the re-reading is.
    pub(crate) async fn set_scrub_progress(&self, progress: ScrubProgress) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("update scrub set done_at = ?, begun_at = ?, file = ?")
            .bind(progress.done_at.map(Timestamp::as_millisecond))
            .bind(progress.begun_at.map(Timestamp::as_millisecond))
            .bind(progress.file.as_ref().map(|file| file.as_bytes().as_slice()))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Notes that a file is to be fetched again, unless the catalogue does not want it here.
async fn note_repair(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<(), StoreError> {
    sqlx::query(
        "insert into repair (file) select ?1
         where not exists (select 1 from assignment where file = ?1 and state <> 'assigned') on conflict do nothing",
    )
    .bind(id.as_bytes().as_slice())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Nothing of the file is left to be fetched again.
pub(super) async fn end_repair(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<(), StoreError> {
    sqlx::query("delete from repair where file = ?").bind(id.as_bytes().as_slice()).execute(&mut **transaction).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use wire::Layout;

    use super::*;
    use crate::store::Addition;

    #[tokio::test]
    async fn a_spoiled_chunk_is_missing_until_it_is_there_again_and_a_lost_file_until_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).await.unwrap();
        let (file, layout) = (FileId::new(), Layout::of(2 << 20).unwrap());
        let chunk = |chunk| Addition { file, chunk, digest: Digest::of(b"x") };
        assert!(store.add_file(file, layout).await.unwrap());
        assert_eq!(store.add_chunks(&[chunk(0), chunk(1)]).await.unwrap().len(), 1);
        assert!(store.missing(9).await.unwrap().is_empty() && !store.is_wanted(file).await.unwrap());

        store.drop_chunks(file, &[1]).await.unwrap();
        let row = store.file(file).await.unwrap().unwrap();
        assert_eq!((row.root, row.runs.len()), (None, 1));
        assert_eq!(store.missing(9).await.unwrap(), [file]);
        assert_eq!(store.add_chunks(&[chunk(1)]).await.unwrap().len(), 1);
        assert!(store.missing(9).await.unwrap().is_empty() && !store.is_wanted(file).await.unwrap());

        store.lose_file(file).await.unwrap();
        assert!(store.file(file).await.unwrap().is_none());
        assert_eq!(store.missing(9).await.unwrap(), [file]);
        store.give_up_repair(file).await.unwrap();
        assert!(store.missing(9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_progress_of_a_round_is_remembered_and_files_come_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).await.unwrap();
        let mut files = [(); 3].map(|()| FileId::new());
        for file in files {
            store.add_file(file, Layout::of(0).unwrap()).await.unwrap();
        }
        files.sort_unstable_by_key(|file| *file.as_bytes());
        assert_eq!(store.file_after(None).await.unwrap(), Some(files[0]));
        assert_eq!(store.file_after(Some(files[1])).await.unwrap(), Some(files[2]));
        assert_eq!(store.file_after(Some(files[2])).await.unwrap(), None);
        let progress = ScrubProgress { begun_at: Some(Timestamp::UNIX_EPOCH), file: Some(files[1]), done_at: None };
        store.set_scrub_progress(progress).await.unwrap();
        assert_eq!(store.scrub_progress().await.unwrap(), progress);
    }
}
