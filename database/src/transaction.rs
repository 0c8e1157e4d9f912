//! Transactions of the one writer of a database.

use sqlx::{Sqlite, SqlitePool, Transaction};

/// Extent to which a transaction survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Full durability, because an answer promises the change.
    Synced,
    /// Durability except for the last moments: the change reaches the disk with the next synced transaction, and what is lost is
    /// done again.
    Ordered,
}

impl Durability {
    /// Returns the statement that begins a transaction. A deferred transaction that turns to writing would fail at once while another
    /// process writes; an immediate one waits.
    const fn statement(self) -> &'static str {
        match self {
            Self::Synced => "pragma synchronous = full; begin immediate",
            Self::Ordered => "pragma synchronous = normal; begin immediate",
        }
    }
}

/// Begins a transaction on the pool of the one writing connection; waits for the transaction before it.
///
/// # Errors
/// The database's; also when another process holds the database for longer than the lock timeout.
pub async fn begin(writer: &SqlitePool, durability: Durability) -> sqlx::Result<Transaction<'static, Sqlite>> {
    match writer.begin_with(durability.statement()).await {
        // SQLite ends a transaction by itself when the disk is full; the connection goes on counting it and begins no other.
        Err(sqlx::Error::InvalidSavePointStatement) => {
            writer.acquire().await?.close().await?;
            writer.begin_with(durability.statement()).await
        }
        begun => begun,
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[tokio::test]
    async fn each_transaction_has_the_durability_that_it_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::connection::options(&folder.path().join("x.db")).create_if_missing(true);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        for (durability, level) in [(Durability::Synced, 2), (Durability::Ordered, 1), (Durability::Synced, 2)] {
            let mut write = begin(&writer, durability).await.unwrap();
            let found: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(&mut *write).await.unwrap();
            assert_eq!(found, level, "{durability:?}");
            write.commit().await.unwrap();
        }
        writer.close().await;
    }
}
