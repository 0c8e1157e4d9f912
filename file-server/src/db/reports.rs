//! Changes of replicas that the info-server has not acknowledged yet.

use jiff::Timestamp;
use sqlx::{Row as _, Sqlite, Transaction};
use wire::FileId;

use super::{Database, DatabaseError, Durability, bytes_column, from_sql, to_sql};

/// A file whose present state is to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingReport {
    pub(crate) file: FileId,
    /// Number of the change; it ascends over all changes on this server.
    pub(crate) counter: u64,
    /// Set if the replica is complete, or gone: a publisher or the info-server may be waiting for that.
    pub(crate) settled: bool,
    /// Set if the replica is complete and was not read back yet.
    pub(crate) unread: bool,
}

impl Database {
    /// Returns the oldest changes that are still to be reported, at most `limit`.
    pub(crate) async fn pending_reports(&self, limit: u32) -> Result<Vec<PendingReport>, DatabaseError> {
        let rows = sqlx::query(
            "select report.file as file, counter, (file.id is null or file.root is not null) as settled,
                 (file.root is not null and file.sha256 is null) as unread
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
                    unread: row.try_get("unread")?,
                })
            })
            .collect()
    }

    /// Removes a change that was acknowledged, unless there was another one since.
    pub(crate) async fn remove_report(&self, report: PendingReport) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        sqlx::query("delete from report where file = ? and counter = ?")
            .bind(report.file.as_bytes().as_slice())
            .bind(to_sql(report.counter))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Raises the counter of reports to `now` at least, in milliseconds since 1970. Without it a server whose database was
    /// lost, or replaced by an older copy, would count from below what the info-server has seen, and its reports would be
    /// ignored.
    pub(crate) async fn raise_report_counter(&self, now: Timestamp) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Synced).await?;
        sqlx::query("update state set report_counter = max(report_counter, ?)")
            .bind(now.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Has every file reported again: a restored catalogue may have lost earlier reports.
pub(super) async fn report_all_files(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), DatabaseError> {
    let rows = sqlx::query("select id from file").fetch_all(&mut **transaction).await?;
    for row in rows {
        note_change(transaction, bytes_column(&row, "id")?).await?;
    }
    Ok(())
}

/// Records, in the transaction of a change, that it is to be reported.
pub(super) async fn note_change(transaction: &mut Transaction<'_, Sqlite>, file: FileId) -> Result<(), DatabaseError> {
    sqlx::query("update state set report_counter = report_counter + 1").execute(&mut **transaction).await?;
    sqlx::query("insert or replace into report (file, counter) select ?, report_counter from state")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
