//! Files whose spans this server fetches from URLs, for jobs.

use sqlx::{Sqlite, Transaction};
use wire::{FileId, JobId};

use super::{Database, DatabaseError, Durability, bytes_column};

/// A file that is stored for a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobFile {
    pub(crate) file: FileId,
    pub(crate) job: JobId,
}

impl Database {
    /// Records that a file is fetched for a job.
    pub(crate) async fn add_job_file(&self, file: FileId, job: JobId) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("insert or ignore into fetched (file, job) select id, ?2 from file where id = ?1")
            .bind(file.as_bytes().as_slice())
            .bind(job.as_bytes().as_slice())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Returns the file that is stored for a job.
    pub(crate) async fn file_of_job(&self, job: JobId) -> Result<Option<FileId>, DatabaseError> {
        let row = sqlx::query("select file from fetched where job = ? order by file desc limit 1")
            .bind(job.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| bytes_column(&row, "file")).transpose()
    }

    /// Returns the files that are stored for jobs.
    pub(crate) async fn job_files(&self) -> Result<Vec<JobFile>, DatabaseError> {
        let rows = sqlx::query("select file, job from fetched").fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| Ok(JobFile { file: bytes_column(row, "file")?, job: bytes_column(row, "job")? }))
            .collect()
    }
}

/// Records that a file is published: it does not go with its job any more.
pub(super) async fn detach(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<(), DatabaseError> {
    let sql = sqlx::query("delete from fetched where file = ?").bind(id.as_bytes().as_slice());
    sql.execute(&mut **transaction).await?;
    Ok(())
}

/// The same for a file that is assigned, if it is complete: its job fetches nothing more.
pub(super) async fn detach_complete(
    transaction: &mut Transaction<'_, Sqlite>,
    id: FileId,
) -> Result<(), DatabaseError> {
    let sql = "delete from fetched where file in (select id from file where id = ? and root is not null)";
    sqlx::query(sql).bind(id.as_bytes().as_slice()).execute(&mut **transaction).await?;
    Ok(())
}
