//! Files of which spans are fetched from a URL.

use wire::{FileId, JobId};

use super::{Durability, Store, StoreError, bytes_column};

impl Store {
    /// Notes that what is here of a file was fetched for a job.
    pub(crate) async fn note_fetched(&self, file: FileId, job: JobId) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("insert or ignore into fetched (file, job) select id, ?2 from file where id = ?1")
            .bind(file.as_bytes().as_slice())
            .bind(job.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The file of which something is here for a job.
    pub(crate) async fn fetched_for(&self, job: JobId) -> Result<Option<FileId>, StoreError> {
        let row = sqlx::query("select file from fetched where job = ? order by file desc limit 1")
            .bind(job.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| bytes_column(&row, "file")).transpose()
    }

    /// The jobs for which something is here, and their files.
    pub(crate) async fn fetched(&self) -> Result<Vec<(FileId, JobId)>, StoreError> {
        let rows = sqlx::query("select file, job from fetched").fetch_all(&self.reader).await?;
        rows.iter().map(|row| Ok((bytes_column(row, "file")?, bytes_column(row, "job")?))).collect()
    }
}
