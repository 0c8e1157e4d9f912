//! The catalogue's database: the only place that names `sqlx`.
//!
//! SQLite in WAL mode, any number of readers and one writer. Every write begins with `BEGIN IMMEDIATE`, because a
//! deferred transaction that turns to writing fails at once when another process (the command line) writes.

use std::{
    path::Path,
    str::FromStr as _,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use wire::id::Epoch;

pub mod accounts;
pub mod assignments;
pub mod audit;
pub mod backup;
pub mod census;
pub mod files;
pub(crate) mod jobs;
pub mod outbox;
pub mod replicas;
pub mod search;
pub mod servers;
#[cfg(test)]
mod states;
pub mod tokens;
pub mod unknown;

/// The newest schema this build knows; checked against the database by [`Store::open`].
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/info-server");

/// The first release without the bug that corrupts WAL databases.
const SAFE_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How long a write waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// How long a statement waits for a connection; beyond it the caller is told to come back.
const TURN: Duration = Duration::from_secs(5);

/// Handles on the database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
    epoch: Arc<RwLock<Epoch>>,
}

/// A write in progress; nothing is visible before its `commit`.
pub type Write = Transaction<'static, Sqlite>;

impl Store {
    /// Opens or makes the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// When SQLite is a release that corrupts databases, when the schema is newer than this build, and whatever the
    /// file system says.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer promises that what it says survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            // A long read, such as a backup, lets the log of writes grow; it need not stay as large.
            .pragma("journal_size_limit", "67108864")
            .statement_cache_capacity(128);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(TURN)
            .connect_with(options.clone())
            .await
            .with_context(|| format!("cannot open the database {}", path.display()))?;
        refuse_unsafe_sqlite(&writer).await?;
        migrate(&writer, path).await?;
        let epoch = Arc::new(RwLock::new(epoch(&writer).await?));
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(TURN)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { readers, writer, epoch })
    }

    /// The life of this catalogue.
    pub fn epoch(&self) -> Epoch {
        *self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new life if `old` is still the present one: the database was put back to an earlier state, so that the
    /// numbers its readers have seen would be given out once more.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_epoch(&self, old: Epoch) -> sqlx::Result<()> {
        let new = Epoch::new();
        let mut write = self.write().await?;
        let begun = sqlx::query("update catalogue set epoch = ? where epoch = ?")
            .bind(new.as_bytes().as_slice())
            .bind(old.as_bytes().as_slice())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        if begun.rows_affected() == 1 {
            *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }

    /// Begins a write; waits for the one before it.
    ///
    /// # Errors
    /// When another process holds the database for longer than the busy timeout.
    pub async fn write(&self) -> sqlx::Result<Write> {
        self.begin("pragma synchronous = full; begin immediate").await
    }

    /// As [`Self::write`], for what nobody was promised and what is done again when it is lost in a power cut: it reaches the disk
    /// with the next promise, and costs no sync of its own.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_lazily(&self) -> sqlx::Result<Write> {
        self.begin("pragma synchronous = normal; begin immediate").await
    }

    async fn begin(&self, statement: &'static str) -> sqlx::Result<Write> {
        match self.writer.begin_with(statement).await {
            // SQLite ends a transaction by itself when the disk is full; the connection goes on counting it and begins no other.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with(statement).await
            }
            begun => begun,
        }
    }

    /// Waits for running statements and closes every handle.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn refuse_unsafe_sqlite(pool: &SqlitePool) -> anyhow::Result<()> {
    let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(pool).await?;
    let mut numbers = version.split('.').map(|part| u32::from_str(part).unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found < SAFE_SQLITE {
        let (a, b, c) = SAFE_SQLITE;
        bail!("SQLite {version} can corrupt a database in WAL mode: use a build with SQLite {a}.{b}.{c} or newer");
    }
    Ok(())
}

async fn migrate(pool: &SqlitePool, path: &Path) -> anyhow::Result<()> {
    match MIGRATIONS.run(pool).await {
        Ok(()) => Ok(()),
        Err(sqlx::migrate::MigrateError::VersionMissing(version)) => bail!(
            "the database {} has schema {version}, which this build does not know: start the newer build it was used \
             with, or restore a backup",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot bring the schema of {} up to date", path.display())),
    }
}

async fn epoch(pool: &SqlitePool) -> anyhow::Result<Epoch> {
    sqlx::query("insert or ignore into catalogue (one, epoch) values (1, ?)")
        .bind(Epoch::new().as_bytes().as_slice())
        .execute(pool)
        .await?;
    let raw: Vec<u8> = sqlx::query_scalar("select epoch from catalogue").fetch_one(pool).await?;
    Ok(Epoch::try_from(raw.as_slice())?)
}

/// Whether a failure only means that too many want the database at once.
pub fn is_crowded(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(sqlx::Error::PoolTimedOut))
}

/// Whether a failure only means that there is no room on the disk.
pub fn is_full(error: &anyhow::Error) -> bool {
    // SQLITE_FULL, and its kinds.
    let full = |code: &str| code.parse::<u32>().is_ok_and(|code| code & 0xff == 13);
    matches!(error.downcast_ref(), Some(sqlx::Error::Database(error)) if error.code().as_deref().is_some_and(full))
}

/// A column that this program wrote but cannot read: damage, never a user's mistake.
fn corrupt(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// An id as SQL's `unhex` takes it.
fn hex(raw: &[u8; 16]) -> String {
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_millis(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(corrupt)
}

/// What does not fit 63 bits counts as the largest that does.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: i64) -> sqlx::Result<u64> {
    u64::try_from(number).map_err(corrupt)
}
