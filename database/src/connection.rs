//! Connections to a database, and its schema.

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// First version whose write-ahead log cannot be corrupted by a checkpoint that races with a writer.
const MIN_SQLITE_VERSION: SqliteVersion = SqliteVersion { major: 3, minor: 51, patch: 3 };

/// Longest wait of a statement for the lock of another connection or process.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason why a database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The library can corrupt databases.
    #[error(
        "SQLite {0} can corrupt a database in WAL mode: use a build with SQLite {major}.{minor}.{patch} or newer",
        major = MIN_SQLITE_VERSION.major, minor = MIN_SQLITE_VERSION.minor, patch = MIN_SQLITE_VERSION.patch
    )]
    OldLibrary(String),
    /// A newer build wrote the database.
    #[error("the database has schema {0}, which this build does not know: start the newer build that it was used with")]
    Newer(i64),
    /// A migration failed.
    #[error("the schema of the database cannot be brought up to date: {0}")]
    Migration(MigrateError),
    /// The database could not be read.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl SchemaError {
    /// Returns the failure of the database behind this error, if there is one.
    pub const fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(error)
            | Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Some(error),
            Self::OldLibrary(_) | Self::Newer(_) | Self::Migration(_) => None,
        }
    }
}

/// Returns the options of every connection: a write-ahead log, and a sync for each transaction, because an answer promises that
/// what it reports survives a power cut.
pub fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(LOCK_TIMEOUT)
}

/// Checks the library's version, and applies the migrations that the database lacks.
///
/// # Errors
/// See [`SchemaError`].
pub async fn bring_up_to_date(writer: &SqlitePool, migrator: &Migrator) -> Result<(), SchemaError> {
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(writer).await?;
    if SqliteVersion::parse(&version) < MIN_SQLITE_VERSION {
        return Err(SchemaError::OldLibrary(version));
    }
    migrator.run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => SchemaError::Newer(version),
        other => SchemaError::Migration(other),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SqliteVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl SqliteVersion {
    /// Reads a version; a part that is missing or no number counts as 0.
    fn parse(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Self { major: next(), minor: next(), patch: next() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlite_that_can_corrupt_its_log_is_refused() {
        for (version, good) in [("3.51.3", true), ("3.51.2", false), ("3.60.0", true), ("4.0.0", true), ("3.7", false)]
        {
            assert_eq!(SqliteVersion::parse(version) >= MIN_SQLITE_VERSION, good, "{version}");
        }
    }
}
