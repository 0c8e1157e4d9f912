//! Copies of the database: made while it is in use, read through before they count, and begun anew where they are put back.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use wire::id::Epoch;

use super::{
    BUSY, Store,
    audit::{self, Deed, Kind},
};

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Published files.
    pub files: i64,
    /// File servers that ever enrolled.
    pub servers: i64,
    /// Accounts.
    pub accounts: i64,
}

/// Copies the database at `from` into the empty file `to`, as it is at one moment. Whoever writes meanwhile is not held up: the copy
/// is one long read.
///
/// # Errors
/// When `from` is no database, and whatever the file system says.
pub async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut source = look_into(from).await?;
    let name = to.to_str().with_context(|| format!("the name {} is not UTF-8", to.display()))?;
    let copied = sqlx::query("vacuum into ?").bind(name).execute(&mut source).await;
    source.close().await?;
    copied.with_context(|| format!("cannot copy the database {}", from.display()))?;
    Ok(())
}

/// Reads a copy through: every page, every index, every reference.
///
/// # Errors
/// What is wrong with it.
pub async fn check(path: &Path) -> anyhow::Result<Contents> {
    let mut copy = look_into(path).await?;
    let contents = read_through(&mut copy).await.with_context(|| format!("{} is no sound catalogue", path.display()));
    copy.close().await?;
    contents
}

async fn read_through(copy: &mut SqliteConnection) -> anyhow::Result<Contents> {
    let tables: i64 = sqlx::query_scalar(
        "select count(*) from sqlite_schema where type = 'table' and name in ('catalogue', 'files', 'outbox', 'servers')",
    )
    .fetch_one(&mut *copy)
    .await?;
    ensure!(tables == 4, "it was not made by an info-server");
    let found: String = sqlx::query_scalar("pragma integrity_check(1)").fetch_one(&mut *copy).await?;
    ensure!(found == "ok", "it is damaged: {found}");
    if sqlx::query("pragma foreign_key_check").fetch_optional(&mut *copy).await?.is_some() {
        bail!("it is damaged: a row belongs to another one that is not there");
    }
    let (files, servers, accounts) = sqlx::query_as(
        "select (select count(*) from files where state = 'available'), (select count(*) from servers),
             (select count(*) from users)",
    )
    .fetch_one(copy)
    .await?;
    Ok(Contents { files, servers, accounts })
}

/// A connection that changes nothing and makes nothing.
async fn look_into(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
    let options = options.disable_statement_logging();
    options.connect().await.with_context(|| format!("cannot read the database {}", path.display()))
}

impl Store {
    /// Has a catalogue that was put back begin a new life. What was ended after the copy was made must not come back, so sessions and
    /// tokens end with the old life; so do its facts, as file servers begin with the present state.
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
        let deed = Deed::new(Kind::Restored).with(json!({ "newest_file": newest }));
        audit::record(&mut write, &[deed], now).await?;
        write.commit().await
    }
}
