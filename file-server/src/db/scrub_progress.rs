//! Progress of the verification of all stored files.

use jiff::Timestamp;
use sqlx::Row as _;
use wire::FileId;

use super::{Database, DatabaseError, Durability, bytes_column, optional_bytes_column};

/// Progress of the rounds that verify every stored file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ScrubProgress {
    /// Start of the last round that came to its end.
    pub(crate) done_at: Option<Timestamp>,
    /// Start of the running round.
    pub(crate) begun_at: Option<Timestamp>,
    /// The last file that the running round has verified.
    pub(crate) file: Option<FileId>,
}

impl Database {
    /// Returns the file after `file` in the order of their ids.
    pub(crate) async fn file_after(&self, file: Option<FileId>) -> Result<Option<FileId>, DatabaseError> {
        let after = file.as_ref().map_or([].as_slice(), |file| file.as_bytes().as_slice());
        let row = sqlx::query("select id from file where id > ? order by id limit 1")
            .bind(after)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(|row| bytes_column(row, "id")).transpose()
    }

    /// Returns the progress.
    pub(crate) async fn scrub_progress(&self) -> Result<ScrubProgress, DatabaseError> {
        let row = sqlx::query("select done_at, begun_at, file from scrub").fetch_one(&self.reader).await?;
        let time = |column: &str| {
            let ms: Option<i64> = row.try_get(column)?;
            ms.map(Timestamp::from_millisecond).transpose().map_err(|_| DatabaseError::Corrupt)
        };
        Ok(ScrubProgress {
            done_at: time("done_at")?,
            begun_at: time("begun_at")?,
            file: optional_bytes_column(&row, "file")?,
        })
    }

    /// Stores the progress.
    pub(crate) async fn set_scrub_progress(&self, progress: ScrubProgress) -> Result<(), DatabaseError> {
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

#[cfg(test)]
mod tests {
    use wire::ChunkLayout;

    use super::*;

    #[tokio::test]
    async fn the_progress_of_a_round_is_stored_and_files_come_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("db")).await.unwrap();
        let mut files = [(); 3].map(|()| FileId::new());
        for file in files {
            store.add_file(file, ChunkLayout::of(0).unwrap()).await.unwrap();
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
