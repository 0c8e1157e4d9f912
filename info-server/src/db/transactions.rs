//! Writes.

use database::transaction::{self, Durability};
use sqlx::{Sqlite, Transaction};

use super::connections::Database;

/// A write in progress; nothing is visible before its `commit`.
pub type Write = Transaction<'static, Sqlite>;

impl Database {
    /// Begins a write; waits for the one before it.
    ///
    /// # Errors
    /// When another process holds the database for longer than the busy timeout.
    pub async fn write(&self) -> sqlx::Result<Write> {
        self.begin(Durability::Synced).await
    }

    /// Begins a write without a sync of its own, for what no answer promised and what is repeated when a power cut loses it: it
    /// reaches the disk with the next promise.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_lazily(&self) -> sqlx::Result<Write> {
        self.begin(Durability::Ordered).await
    }

    async fn begin(&self, durability: Durability) -> sqlx::Result<Write> {
        self.check_folder().await.map_err(|replaced| sqlx::Error::Io(std::io::Error::other(replaced)))?;
        transaction::begin(&self.writer, durability).await
    }
}
