//! Changes of replicas that the info-server has not acknowledged yet.

use jiff::Timestamp;
use sqlx::{Row as _, Sqlite, Transaction};
use wire::FileId;

use super::{Durability, Store, StoreError, bytes_column, from_sql, to_sql};

/// A file whose present state is to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingReport {
    pub(crate) file: FileId,
    /// Ascends with every change on this server.
    pub(crate) counter: u64,
    /// Whether somebody may be waiting for it: the replica is complete, or gone.
    pub(crate) settled: bool,
}

impl Store {
    /// The oldest changes that are still to be reported, at most `limit`.
    pub(crate) async fn pending_reports(&self, limit: u32) -> Result<Vec<PendingReport>, StoreError> {
        let rows = sqlx::query(
            "select report.file as file, counter, (file.id is null or file.root is not null) as settled
             from report left join file on file.id = report.file
             order by settled desc, counter limit ?",
        )
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PendingReport {
                    file: bytes_column(row, "file")?,
                    counter: from_sql(row.try_get("counter")?)?,
                    settled: row.try_get("settled")?,
                })
            })
            .collect()
    }

    /// Forgets a change that was acknowledged, unless there was another one since.
    pub(crate) async fn report_done(&self, report: PendingReport) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("delete from report where file = ? and counter = ?")
            .bind(report.file.as_bytes().as_slice())
            .bind(to_sql(report.counter))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Has reports from now on count from `now` at least, in milliseconds since 1970. Without it a server whose database was
    /// lost, or replaced by an older copy, would count from below what the info-server has seen, and never be heard again.
    pub(crate) async fn raise_report_counter(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Synced).await?;
        sqlx::query("update state set report_counter = max(report_counter, ?)")
            .bind(now.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Has every file reported again: a restored catalogue may have forgotten what it was told.
    pub(super) async fn report_everything(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
        let rows = sqlx::query("select id from file").fetch_all(&mut **transaction).await?;
        for row in rows {
            note_change(transaction, bytes_column(&row, "id")?).await?;
        }
        Ok(())
    }
}

/// Notes, in the transaction of a change, that it is to be reported.
pub(super) async fn note_change(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<(), StoreError> {
    sqlx::query("update state set report_counter = report_counter + 1").execute(&mut **transaction).await?;
    sqlx::query("insert or replace into report (file, counter) select ?, report_counter from state")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
