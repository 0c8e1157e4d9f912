//! Files that should be complete on this server and are not.

use sqlx::{Sqlite, Transaction};
use wire::FileId;

use super::{Database, DatabaseError, Durability, bytes_column};

impl Database {
    /// Returns files that should be complete and are not, at most `limit`. In random order, so that none keeps others out for
    /// ever.
    pub(crate) async fn incomplete_files(&self, limit: u32) -> Result<Vec<FileId>, DatabaseError> {
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

    /// Returns true if the file should be complete on this server.
    pub(crate) async fn is_wanted(&self, id: FileId) -> Result<bool, DatabaseError> {
        Ok(sqlx::query_scalar(
            "select exists (select 1 from assignment where file = ?1 and state = 'assigned')
                 or exists (select 1 from repair where file = ?1)",
        )
        .bind(id.as_bytes().as_slice())
        .fetch_one(&self.reader)
        .await?)
    }

    /// Cancels the repair of a file that the catalogue does not have.
    pub(crate) async fn cancel_repair(&self, id: FileId) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        end_repair(&mut transaction, id).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Records that a file is to be fetched again, unless its assignment was withdrawn.
pub(super) async fn note_repair(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<(), DatabaseError> {
    sqlx::query(
        "insert into repair (file) select ?1
         where not exists (select 1 from assignment where file = ?1 and state <> 'assigned') on conflict do nothing",
    )
    .bind(id.as_bytes().as_slice())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Records that nothing of the file is left to be fetched again.
pub(super) async fn end_repair(transaction: &mut Transaction<'_, Sqlite>, id: FileId) -> Result<(), DatabaseError> {
    sqlx::query("delete from repair where file = ?").bind(id.as_bytes().as_slice()).execute(&mut **transaction).await?;
    Ok(())
}
