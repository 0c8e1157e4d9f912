//! The rows of the audit log. They are only ever appended, and forgotten by age and number.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::Row as _;

use crate::{
    accounts::audit::{AuditEntry, AuditKind, AuditRecord},
    db::{
        Database, Write,
        columns::{corrupt, from_millis, to_i64, to_u64},
    },
};

/// Appends audit entries, in one statement.
///
/// # Errors
/// The database's.
pub async fn record(write: &mut Write, entries: &[AuditEntry], now: Timestamp) -> sqlx::Result<()> {
    let entries = serde_json::to_string(entries).map_err(corrupt)?;
    sqlx::query(
        "insert into audit (at, kind, user_id, subject, address, count, detail)
         select ?, value ->> 'kind', value ->> 'user', value ->> 'subject', value ->> 'address', value ->> 'count',
                value -> 'detail'
         from json_each(?)",
    )
    .bind(now.as_millisecond())
    .bind(entries)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Deletes rows from before `before`, at most `most`.
///
/// # Errors
/// The database's.
pub async fn trim_older(write: &mut Write, before: Timestamp, most: u32) -> sqlx::Result<u64> {
    let done = sqlx::query("delete from audit where id in (select id from audit where at < ? limit ?)")
        .bind(before.as_millisecond())
        .bind(most)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected())
}

/// Deletes the oldest rows of a kind, up to and with `last`, at most `most`.
///
/// # Errors
/// The database's.
pub async fn trim_kind(write: &mut Write, kind: AuditKind, last: i64, most: u32) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from audit where id in (select id from audit where kind = ? and id <= ? order by id limit ?)",
    )
    .bind(kind.as_str())
    .bind(last)
    .bind(most)
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected())
}

impl Database {
    /// Returns a page of the log, newest first: at most `limit` rows numbered below `before`.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit(
        &self,
        before: Option<u64>,
        limit: u32,
        kind: Option<AuditKind>,
    ) -> sqlx::Result<Vec<AuditRecord>> {
        let rows = sqlx::query(
            "select audit.id, at, kind, users.email, subject, address, count, detail
             from audit left join users on users.id = audit.user_id
             where audit.id < ?1 and (?2 is null or kind = ?2) order by audit.id desc limit ?3",
        )
        .bind(before.map_or(i64::MAX, to_i64))
        .bind(kind.map(AuditKind::as_str))
        .bind(limit)
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                let detail: Option<&str> = row.try_get(7)?;
                Ok(AuditRecord {
                    id: to_u64(row.try_get(0)?)?,
                    at: from_millis(row.try_get(1)?)?,
                    kind: row.try_get(2)?,
                    user: row.try_get(3)?,
                    subject: row.try_get(4)?,
                    address: row.try_get(5)?,
                    count: to_u64(row.try_get(6)?)?,
                    detail: detail.map(|detail| serde_json::from_str(detail).map_err(corrupt)).transpose()?,
                })
            })
            .collect()
    }

    /// Returns the number of the newest row that is one too many, when only `keep` rows of a kind are kept.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_surplus(&self, kind: AuditKind, keep: u32) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar("select id from audit where kind = ? order by id desc limit 1 offset ?")
            .bind(kind.as_str())
            .bind(keep)
            .fetch_optional(self.readers())
            .await
    }
}

/// Records the settings that decide who may do what, if they are others than the last time.
///
/// # Errors
/// The database's.
pub async fn record_settings(db: &Database, settings: Value) -> sqlx::Result<()> {
    let last = db.audit(None, 1, Some(AuditKind::Settings)).await?;
    if last.first().is_some_and(|last| last.detail.as_ref() == Some(&settings)) {
        return Ok(());
    }
    let mut write = db.write().await?;
    record(&mut write, &[AuditEntry::new(AuditKind::Settings).with(settings)], Timestamp::now()).await?;
    write.commit().await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_log_is_only_ever_appended_to_and_forgets_each_kind_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("x.sqlite")).await.unwrap();
        let now = Timestamp::now();
        let mut write = store.write().await.unwrap();
        let grants: Vec<AuditEntry> =
            (0..10).map(|n| AuditEntry::new(AuditKind::Grant).about(n).with(json!({ "n": n }))).collect();
        record(&mut write, &grants, now).await.unwrap();
        let failed = AuditEntry::new(AuditKind::LoginFailed).by(None, Some("192.0.2.1".parse().unwrap())).times(70);
        record(&mut write, &[failed], now).await.unwrap();
        write.commit().await.unwrap();

        let all = store.audit(None, 100, None).await.unwrap();
        assert_eq!(all.len(), 11);
        let newest = all.first().unwrap();
        assert_eq!(
            (newest.kind.as_str(), newest.count, newest.address.as_deref()),
            ("login-failed", 70, Some("192.0.2.1"))
        );
        let page = store.audit(Some(6), 3, Some(AuditKind::Grant)).await.unwrap();
        assert_eq!(page.iter().map(|entry| entry.id).collect::<Vec<_>>(), [5, 4, 3]);
        assert_eq!(page.first().unwrap().detail, Some(json!({ "n": 4 })));

        let mut write = store.write().await.unwrap();
        assert!(sqlx::query("update audit set count = 2").execute(&mut *write).await.is_err());
        drop(write);
        let last = store.audit_surplus(AuditKind::Grant, 4).await.unwrap().unwrap();
        assert_eq!(store.audit_surplus(AuditKind::LoginFailed, 4).await.unwrap(), None);
        let mut write = store.write().await.unwrap();
        assert_eq!(trim_kind(&mut write, AuditKind::Grant, last, 100).await.unwrap(), 6);
        assert_eq!(trim_older(&mut write, now, 100).await.unwrap(), 0);
        write.commit().await.unwrap();
        assert_eq!(store.audit(None, 100, None).await.unwrap().len(), 5);
    }
}
