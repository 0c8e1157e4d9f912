//! What this server remembers, in SQLite. `sqlx` is named only in this module tree.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    Row as _, Sqlite, SqlitePool, Transaction,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use tokio::sync::Mutex;

mod events;
mod fetched;
mod files;
mod reconcile;
mod repair;
mod reports;
mod state;
#[cfg(test)]
mod states;
mod tokens;

pub(crate) use events::{Batch, Cursors, Effects};
pub(crate) use files::{Addition, FileRow};
pub(crate) use repair::ScrubProgress;
pub(crate) use reports::PendingReport;
pub(crate) use tokens::Standing;

/// The first version whose write-ahead log cannot be corrupted by a checkpoint that races with a writer.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// The newest schema this build knows.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/file-server");

/// How long a reader waits for a lock; the one writer never waits for another.
const BUSY: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database was written by a newer version of this program: {0}")]
    Newer(MigrateError),
    #[error("the database cannot be brought up to date: {0}")]
    Migration(MigrateError),
    #[error("SQLite {0} can corrupt its write-ahead log; at least 3.51.3 is needed")]
    OldLibrary(String),
    #[error("the database holds what no version of this program wrote")]
    Corrupt,
}

impl StoreError {
    /// Whether there was no room left.
    pub(crate) fn is_full(&self) -> bool {
        // SQLITE_FULL
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.code().as_deref() == Some("13"))
    }

    /// Whether a file could not be opened, or no connection was free: for a database that was open already, that passes.
    pub(crate) fn is_exhausted(&self) -> bool {
        // SQLITE_CANTOPEN, and its kinds.
        let cannot_open = |code: &str| code.parse::<u32>().is_ok_and(|code| code & 0xff == 14);
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.code().as_deref().is_some_and(cannot_open),
            Self::Database(sqlx::Error::PoolTimedOut) => true,
            Self::Database(sqlx::Error::Io(error)) => lifecycle::descriptors::exhausted(error),
            _ => false,
        }
    }
}

/// What a power cut may take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Nothing: somebody was, or will be, told that it is done.
    Synced,
    /// The last moments: whatever is lost is asked for again.
    Ordered,
}

/// The database.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    turn: Arc<Mutex<()>>,
}

impl Store {
    /// Opens the database at `path`, makes it if there is none, brings it up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(&writer).await?;
        if !is_new_enough(&version) {
            return Err(StoreError::OldLibrary(version));
        }
        MIGRATIONS.run(&writer).await.map_err(|error| match error {
            newer @ MigrateError::VersionMissing(_) => StoreError::Newer(newer),
            other => StoreError::Migration(other),
        })?;
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options.pragma("query_only", "1")).await?;
        Ok(Self { writer, reader, turn: Arc::default() })
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1 from state").fetch_one(&self.reader).await?;
        Ok(())
    }

    /// Closes the files; what is running ends first.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    async fn write(&self, durability: Durability) -> Result<Transaction<'static, Sqlite>, StoreError> {
        // There is one writing connection: nobody else's pragma can come between these two statements.
        let _turn = self.turn.lock().await;
        let pragma = match durability {
            Durability::Synced => "pragma synchronous = full",
            Durability::Ordered => "pragma synchronous = normal",
        };
        sqlx::query(pragma).execute(&self.writer).await?;
        match self.writer.begin_with("begin immediate").await {
            // SQLite ends a transaction by itself when the disk is full; the connection goes on counting it and begins no other.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                sqlx::query(pragma).execute(&self.writer).await?;
                Ok(self.writer.begin_with("begin immediate").await?)
            }
            begun => Ok(begun?),
        }
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= OLDEST_SQLITE
}

/// Reads a column that holds the raw bytes of an id or a digest.
fn bytes_column<T: for<'a> TryFrom<&'a [u8]>>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    T::try_from(row.try_get::<&[u8], _>(column)?).map_err(|_| StoreError::Corrupt)
}

/// The same where there may be nothing.
fn optional_bytes_column<T: for<'a> TryFrom<&'a [u8]>>(row: &SqliteRow, column: &str) -> Result<Option<T>, StoreError> {
    row.try_get::<Option<&[u8]>, _>(column)?.map(T::try_from).transpose().map_err(|_| StoreError::Corrupt)
}

/// SQLite counts in 63 bits; whatever is larger was refused where it came in.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlite_that_can_corrupt_its_log_is_refused() {
        for (version, good) in [("3.51.3", true), ("3.51.2", false), ("3.60.0", true), ("4.0.0", true), ("3.7", false)]
        {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file-server.db");
        let store = Store::open(&path).await.unwrap();
        sqlx::query("insert into _sqlx_migrations values (9999, 'later', current_timestamp, true, x'00', 0)")
            .execute(&store.writer)
            .await
            .unwrap();
        store.close().await;
        assert!(matches!(Store::open(&path).await, Err(StoreError::Newer(_))));
    }
}
