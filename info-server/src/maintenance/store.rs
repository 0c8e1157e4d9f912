//! A catalogue that was put back from a backup.

#[cfg(test)]
mod schema_upgrades;

use jiff::Timestamp;
use serde_json::json;
use wire::id::Epoch;

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    db::Database,
};

impl Database {
    /// Begins a new epoch of a catalogue that was put back. A session or token that was ended after the copy was made must not come back, so
    /// all of them end with the old epoch; so do its events, as file servers begin with a snapshot.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_anew(&self, now: Timestamp) -> sqlx::Result<()> {
        let mut write = self.write().await?;
        for sql in [
            "delete from sessions",
            "delete from tokens",
            "update streams set trimmed_to = seq",
            "delete from outbox",
            // Every file server asks about all that it holds again.
            "delete from unknown_files",
        ] {
            sqlx::query(sql).execute(&mut *write).await?;
        }
        sqlx::query("update catalogue set epoch = ?")
            .bind(Epoch::new().as_bytes().as_slice())
            .execute(&mut *write)
            .await?;
        let newest: Option<i64> =
            sqlx::query_scalar("select max(created_at) from files").fetch_one(&mut *write).await?;
        let newest = newest.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let entry = AuditEntry::new(AuditKind::Restored).with(json!({ "newest_file": newest }));
        audit::record(&mut write, &[entry], now).await?;
        write.commit().await
    }
}
