//! Copies of the database: made while it is in use, and read through before they count.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use database::connection::LOCK_TIMEOUT;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

/// The contents of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Published files.
    pub files: i64,
    /// File servers that ever enrolled.
    pub servers: i64,
    /// Accounts.
    pub accounts: i64,
}

/// Copies the database at `from` into the empty file `to`, as it is at one moment. Writes go on meanwhile: the copy
/// is one long read.
///
/// # Errors
/// When `from` is no database, and whatever the file system says.
pub async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut source = open_read_only(from).await?;
    let name = to.to_str().with_context(|| format!("the name {} is not UTF-8", to.display()))?;
    let copied = sqlx::query("vacuum into ?").bind(name).execute(&mut source).await;
    source.close().await?;
    copied.with_context(|| format!("cannot copy the database {}", from.display()))?;
    Ok(())
}

/// Reads a copy through: every page, every index, every reference.
///
/// # Errors
/// Any damage that is found.
pub async fn check(path: &Path) -> anyhow::Result<Contents> {
    let mut copy = open_read_only(path).await?;
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

/// Opens a connection that changes nothing and makes nothing.
async fn open_read_only(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(LOCK_TIMEOUT);
    let options = options.disable_statement_logging();
    options.connect().await.with_context(|| format!("cannot read the database {}", path.display()))
}
