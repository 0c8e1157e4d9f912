//! Numbers of files and replicas. The database updates them with each change: counting a million rows takes too long.

use std::collections::BTreeMap;

use sqlx::Row as _;
use wire::catalogue::FileState;

use crate::db::{Database, columns::to_u64};

/// Numbers of files and replicas.
#[derive(Debug, Clone, Copy)]
pub struct CatalogueCounts {
    /// Files by state.
    pub files: [(FileState, u64); 3],
    /// Replicas with all chunks.
    pub complete: u64,
    /// Replicas that lack some.
    pub partial: u64,
    /// Orphaned files, once for each server.
    pub orphaned: u64,
}

impl Database {
    /// Reads the numbers.
    ///
    /// # Errors
    /// The database's.
    pub async fn catalogue_counts(&self) -> sqlx::Result<CatalogueCounts> {
        let mut counts = BTreeMap::new();
        for row in sqlx::query("select kind, count from tallies").fetch_all(self.readers()).await? {
            counts.insert(row.try_get::<String, _>(0)?, to_u64(row.try_get(1)?)?);
        }
        let of = |kind: &str| counts.get(kind).copied().unwrap_or(0);
        let files =
            [FileState::Uploading, FileState::Available, FileState::Deleting].map(|state| (state, of(state.as_str())));
        let orphaned = sqlx::query_scalar("select count(*) from unknown_files").fetch_one(self.readers()).await?;
        Ok(CatalogueCounts { files, complete: of("complete"), partial: of("partial"), orphaned: to_u64(orphaned)? })
    }
}
