//! The SQLite database: connections, transactions, and the SQL of every subject. `sqlx` is named only in this module tree.

use std::path::Path;

use chunk_store::{BlobError, RecordsError, RecordsErrorKind};
use database::{
    connection::{self, SchemaError},
    fault::Fault,
    transaction::{self, Durability},
};
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqlitePoolOptions, SqliteRow},
};
use tokio::sync::watch;

pub(crate) mod chunk_records;
pub(crate) mod damage;
pub(crate) mod event_batches;
mod high_water;
mod migrations;
pub(crate) mod reconciliation;
mod repairs;
pub(crate) mod reports;
#[cfg(test)]
mod schema_upgrades;
pub(crate) mod scrub_progress;
mod stored_files;
pub(crate) mod tokens;
pub(crate) mod url_fetches;

/// Reason why the database could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the database is damaged: it holds a value that no version of this program wrote")]
    Corrupt,
    #[error("the database is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DatabaseError {
    /// Returns true if no space was left.
    pub(crate) fn is_full(&self) -> bool {
        self.fault() == Some(Fault::Full)
    }

    /// Returns true if pages of the database, or values in it, are not what was written.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt | Self::Damaged(_) | Self::Database(sqlx::Error::ColumnDecode { .. }))
            || self.fault() == Some(Fault::Damaged)
    }

    /// Returns true if a file could not be opened, or no connection was free: for a database that was open already, that
    /// passes.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut) => true,
            Self::Database(sqlx::Error::Io(error)) => lifecycle::descriptors::exhausted(error),
            Self::Database(_) => self.fault() == Some(Fault::CannotOpen),
            _ => false,
        }
    }

    /// Returns the fault of storage that SQLite reported.
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Database(error) => Fault::of(error),
            Self::Schema(error) => Fault::of(error.database()?),
            Self::Corrupt | Self::Damaged(_) | Self::Io(_) => None,
        }
    }
}

impl From<DatabaseError> for RecordsError {
    fn from(error: DatabaseError) -> Self {
        let kind = if error.is_full() {
            RecordsErrorKind::Full
        } else if error.is_out_of_descriptors() {
            RecordsErrorKind::OutOfDescriptors
        } else {
            RecordsErrorKind::Other
        };
        Self::new(kind, error)
    }
}

impl From<DatabaseError> for BlobError {
    fn from(error: DatabaseError) -> Self {
        RecordsError::from(error).into()
    }
}

/// The database. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    writer: SqlitePool,
    reader: SqlitePool,
    /// The damage that was found first.
    damage: watch::Sender<Option<String>>,
}

impl Database {
    /// Opens the database at `path`, creates it if there is none, and applies the migrations.
    pub(crate) async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let options = connection::options(path);
        // Once: a connection that is opened later must not make a database where the data folder's disk was.
        options.clone().create_if_missing(true).connect().await?.close().await?;
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        if let Err(error) = connection::bring_up_to_date(&writer, &migrations::migrator()).await {
            // Before anything is done with the files: SQLite works with their names until then.
            writer.close().await;
            return Err(error.into());
        }
        let reader =
            SqlitePoolOptions::new().max_connections(4).connect_with(options.pragma("query_only", "1")).await?;
        Ok(Self { writer, reader, damage: watch::Sender::new(None) })
    }

    /// Reads one row, to show that the database works.
    pub(crate) async fn ping(&self) -> Result<(), DatabaseError> {
        if self.is_damaged() {
            return Err(DatabaseError::Corrupt);
        }
        sqlx::query("select 1 from state").fetch_one(&self.reader).await?;
        Ok(())
    }

    /// Closes the files, after running transactions have ended.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    async fn write(&self, durability: Durability) -> Result<Transaction<'static, Sqlite>, DatabaseError> {
        self.note(transaction::begin(&self.writer, durability).await.map_err(DatabaseError::from))
    }
}

/// Reads a column that holds the raw bytes of an id or a digest.
fn bytes_column<T: for<'a> TryFrom<&'a [u8]>>(row: &SqliteRow, column: &str) -> Result<T, DatabaseError> {
    T::try_from(row.try_get::<&[u8], _>(column)?).map_err(|_| DatabaseError::Corrupt)
}

/// Reads a column that may be null and else holds the raw bytes of an id or a digest.
fn optional_bytes_column<T: for<'a> TryFrom<&'a [u8]>>(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<T>, DatabaseError> {
    row.try_get::<Option<&[u8]>, _>(column)?.map(T::try_from).transpose().map_err(|_| DatabaseError::Corrupt)
}

/// Converts a number for SQLite, which counts in 63 bits; larger numbers were refused where they came in.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> Result<u64, DatabaseError> {
    u64::try_from(number).map_err(|_| DatabaseError::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file-server.db");
        let store = Database::open(&path).await.unwrap();
        sqlx::query("insert into _sqlx_migrations values (9999, 'later', current_timestamp, true, x'00', 0)")
            .execute(&store.writer)
            .await
            .unwrap();
        store.close().await;
        assert!(matches!(Database::open(&path).await, Err(DatabaseError::Schema(SchemaError::Newer(9999)))));
    }
}
