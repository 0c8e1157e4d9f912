//! The audit log: who did what, when and from where. Written in the transaction of the deed.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row as _;

use super::{Store, Write, corrupt, from_millis, to_i64, to_u64};

/// What was done.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A token was issued; about its file.
    Grant,
    /// A token was ended before its time; about the token.
    Revocation,
    /// A log-in.
    Login,
    /// Log-ins with a wrong password, or of no open account.
    LoginFailed,
    /// Log-ins that were not looked at because too many had failed.
    LoginThrottled,
    /// A session was ended by its owner or an admin.
    Logout,
    /// An account was made.
    UserAdded,
    /// An account's role, password or state was changed.
    UserChanged,
    /// A file was announced.
    FileCreated,
    /// A file was committed.
    FileCommitted,
    /// A file was removed.
    FileDeleted,
    /// Somebody asked for a URL to be fetched together; about the job.
    JobCreated,
    /// Somebody took that back; about the job.
    JobCancelled,
    /// A worker told of digests that were not right; about the file server.
    WorkerConvicted,
    /// A file server enrolled.
    ServerEnrolled,
    /// The server was started with other settings.
    Settings,
    /// The catalogue was put back from a backup.
    Restored,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Grant,
        Self::Revocation,
        Self::Login,
        Self::LoginFailed,
        Self::LoginThrottled,
        Self::Logout,
        Self::UserAdded,
        Self::UserChanged,
        Self::FileCreated,
        Self::FileCommitted,
        Self::FileDeleted,
        Self::JobCreated,
        Self::JobCancelled,
        Self::WorkerConvicted,
        Self::ServerEnrolled,
        Self::Settings,
        Self::Restored,
    ];

    /// The word in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Revocation => "revocation",
            Self::Login => "login",
            Self::LoginFailed => "login-failed",
            Self::LoginThrottled => "login-throttled",
            Self::Logout => "logout",
            Self::UserAdded => "user-added",
            Self::UserChanged => "user-changed",
            Self::FileCreated => "file-created",
            Self::FileCommitted => "file-committed",
            Self::FileDeleted => "file-deleted",
            Self::JobCreated => "job-created",
            Self::JobCancelled => "job-cancelled",
            Self::WorkerConvicted => "worker-convicted",
            Self::ServerEnrolled => "server-enrolled",
            Self::Settings => "settings",
            Self::Restored => "restored",
        }
    }
}

/// One deed on its way into the log.
#[derive(Debug, Clone, Serialize)]
pub struct Deed {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

impl Deed {
    /// A deed of nobody in particular.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, user: None, subject: None, address: None, count: 1, detail: None }
    }

    /// Whose it is, and from where.
    #[must_use]
    pub fn by(mut self, user: impl Into<Option<i64>>, address: Option<IpAddr>) -> Self {
        self.user = user.into();
        self.address = address;
        self
    }

    /// What it is about.
    #[must_use]
    pub fn about(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// How often it was done.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = to_i64(count.max(1));
        self
    }

    /// What else is to be known. Never a secret.
    #[must_use]
    pub fn with(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// A row of the log as admins see it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Entry {
    /// Its number; higher ones are later.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// Who, by the account's name; absent for the terminal, file servers and people who are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How many deeds the row stands for.
    pub count: u64,
    /// What else is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// Writes deeds down, in one statement.
///
/// # Errors
/// The database's.
pub async fn record(write: &mut Write, deeds: &[Deed], now: Timestamp) -> sqlx::Result<()> {
    let deeds = serde_json::to_string(deeds).map_err(corrupt)?;
    sqlx::query(
        "insert into audit (at, kind, user_id, subject, address, count, detail)
         select ?, value ->> 'kind', value ->> 'user', value ->> 'subject', value ->> 'address', value ->> 'count',
                value -> 'detail'
         from json_each(?)",
    )
    .bind(now.as_millisecond())
    .bind(deeds)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Forgets what happened before `before`, at most `most` rows.
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

/// Forgets the oldest rows of a kind, up to and with `last`, at most `most`.
///
/// # Errors
/// The database's.
pub async fn trim_kind(write: &mut Write, kind: Kind, last: i64, most: u32) -> sqlx::Result<u64> {
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

impl Store {
    /// A page of the log, newest first: at most `limit` rows numbered below `before`.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit(&self, before: Option<u64>, limit: u32, kind: Option<Kind>) -> sqlx::Result<Vec<Entry>> {
        let rows = sqlx::query(
            "select audit.id, at, kind, users.email, subject, address, count, detail
             from audit left join users on users.id = audit.user_id
             where audit.id < ?1 and (?2 is null or kind = ?2) order by audit.id desc limit ?3",
        )
        .bind(before.map_or(i64::MAX, to_i64))
        .bind(kind.map(Kind::as_str))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let detail: Option<&str> = row.try_get(7)?;
                Ok(Entry {
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

    /// The number of the newest row that is one too many, when only `keep` rows of a kind are kept.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_surplus(&self, kind: Kind, keep: u32) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar("select id from audit where kind = ? order by id desc limit 1 offset ?")
            .bind(kind.as_str())
            .bind(keep)
            .fetch_optional(&self.readers)
            .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_log_is_only_ever_appended_to_and_forgets_each_kind_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.sqlite")).await.unwrap();
        let now = Timestamp::now();
        let mut write = store.write().await.unwrap();
        let grants: Vec<Deed> = (0..10).map(|n| Deed::new(Kind::Grant).about(n).with(json!({ "n": n }))).collect();
        record(&mut write, &grants, now).await.unwrap();
        let failed = Deed::new(Kind::LoginFailed).by(None, Some("192.0.2.1".parse().unwrap())).times(70);
        record(&mut write, &[failed], now).await.unwrap();
        write.commit().await.unwrap();

        let all = store.audit(None, 100, None).await.unwrap();
        assert_eq!(all.len(), 11);
        let newest = all.first().unwrap();
        assert_eq!(
            (newest.kind.as_str(), newest.count, newest.address.as_deref()),
            ("login-failed", 70, Some("192.0.2.1"))
        );
        let page = store.audit(Some(6), 3, Some(Kind::Grant)).await.unwrap();
        assert_eq!(page.iter().map(|entry| entry.id).collect::<Vec<_>>(), [5, 4, 3]);
        assert_eq!(page.first().unwrap().detail, Some(json!({ "n": 4 })));

        let mut write = store.write().await.unwrap();
        assert!(sqlx::query("update audit set count = 2").execute(&mut *write).await.is_err());
        drop(write);
        let last = store.audit_surplus(Kind::Grant, 4).await.unwrap().unwrap();
        assert_eq!(store.audit_surplus(Kind::LoginFailed, 4).await.unwrap(), None);
        let mut write = store.write().await.unwrap();
        assert_eq!(trim_kind(&mut write, Kind::Grant, last, 100).await.unwrap(), 6);
        assert_eq!(trim_older(&mut write, now, 100).await.unwrap(), 0);
        write.commit().await.unwrap();
        assert_eq!(store.audit(None, 100, None).await.unwrap().len(), 5);
    }

    #[test]
    fn a_kind_has_one_word() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
