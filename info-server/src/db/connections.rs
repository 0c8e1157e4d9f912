//! The connections to the database.
//!
//! SQLite in WAL mode, any number of readers and one writer.

use std::{
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use database::connection;
use lifecycle::data_folder::{FolderReplaced, FolderWatch};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use wire::id::Epoch;

use super::{failures::PresentFault, migrations};

const MAX_READERS: u32 = 4;
/// Longest wait of a statement for a connection; beyond it the caller is asked to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Handles on the database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pub(super) readers: SqlitePool,
    pub(super) writer: SqlitePool,
    pub(super) epoch: Arc<RwLock<Epoch>>,
    pub(super) fault: Arc<PresentFault>,
    /// Identity of the data folder; a command without a server watches none.
    watch: Option<Arc<FolderWatch>>,
}

impl Database {
    /// Opens or makes the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// When SQLite is a release that corrupts databases, when the schema is newer than this build, and whatever the
    /// file system says.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let options = connection::options(path)
            .create_if_missing(true)
            // A long read, such as a backup, lets the log of writes grow; it need not stay as large.
            .pragma("journal_size_limit", "67108864")
            .statement_cache_capacity(128);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await
            .with_context(|| format!("cannot open the database {}", path.display()))?;
        connection::bring_up_to_date(&writer, &migrations::migrator())
            .await
            .with_context(|| format!("cannot use the database {}", path.display()))?;
        let epoch = Arc::new(RwLock::new(read_or_begin_epoch(&writer).await?));
        let readers = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { readers, writer, epoch, fault: Arc::default(), watch: None })
    }

    /// Refuses writes once the data folder is not the one that is watched: they would be gone after a restart.
    #[must_use]
    pub fn watching(mut self, watch: FolderWatch) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// Checks that the data folder is still that of the start.
    ///
    /// # Errors
    /// When another folder is there, or none.
    pub async fn check_folder(&self) -> Result<(), FolderReplaced> {
        let Some(watch) = self.watch.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || watch.check()).await.unwrap_or(Ok(()))
    }

    /// Returns the connections that read, for the domains' stores.
    pub(crate) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Waits for running statements and closes every handle.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Reads the epoch of a database; the first opening begins one.
async fn read_or_begin_epoch(pool: &SqlitePool) -> anyhow::Result<Epoch> {
    sqlx::query("insert or ignore into catalogue (one, epoch) values (1, ?)")
        .bind(Epoch::new().as_bytes().as_slice())
        .execute(pool)
        .await?;
    let raw: Vec<u8> = sqlx::query_scalar("select epoch from catalogue").fetch_one(pool).await?;
    Ok(Epoch::try_from(raw.as_slice())?)
}
