//! How much of everything there is. The numbers are kept by the database with each change: counting a million rows takes too long.

use std::collections::BTreeMap;

use sqlx::Row as _;
use wire::catalog::FileState;

use super::{Store, to_u64};

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub struct Census {
    /// Files by state.
    pub files: [(FileState, u64); 3],
    /// Replicas with all chunks.
    pub complete: u64,
    /// Replicas that lack some.
    pub partial: u64,
    /// Files that servers hold and the catalogue does not know, once for each server.
    pub unknown: u64,
}

impl Store {
    /// Reads the numbers.
    ///
    /// # Errors
    /// The database's.
    pub async fn census(&self) -> sqlx::Result<Census> {
        let mut counts = BTreeMap::new();
        for row in sqlx::query("select kind, count from tallies").fetch_all(&self.readers).await? {
            counts.insert(row.try_get::<String, _>(0)?, to_u64(row.try_get(1)?)?);
        }
        let of = |kind: &str| counts.get(kind).copied().unwrap_or(0);
        let files =
            [FileState::Uploading, FileState::Available, FileState::Deleting].map(|state| (state, of(state.as_str())));
        let unknown = sqlx::query_scalar("select count(*) from unknown_files").fetch_one(&self.readers).await?;
        Ok(Census { files, complete: of("complete"), partial: of("partial"), unknown: to_u64(unknown)? })
    }
}
