//! Files that servers hold and the catalogue does not know.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{FileId, ServerId};

use super::{Store, Write, corrupt, from_millis, hex, to_u64};

/// A file that a server holds and the catalogue does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Unknown {
    /// The server.
    pub server: ServerId,
    /// The file.
    pub file: FileId,
    /// Since when that is known.
    pub since: Timestamp,
}

/// How many of them a server holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UnknownCount {
    /// The server.
    pub server: ServerId,
    /// How many.
    pub files: u64,
}

impl Store {
    /// How many unknown files each server holds that holds any.
    ///
    /// # Errors
    /// The database's.
    pub async fn unknown_counts(&self) -> sqlx::Result<Vec<UnknownCount>> {
        let rows = sqlx::query("select server_id, count(*) from unknown_files group by server_id order by server_id")
            .fetch_all(&self.readers)
            .await?;
        let read = |row: &SqliteRow| {
            Ok(UnknownCount {
                server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
                files: to_u64(row.try_get(1)?)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Up to `most` unknown files of a server, or of all, after one of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn unknown(
        &self,
        server: Option<&ServerId>,
        after: Option<&(ServerId, FileId)>,
        most: u32,
    ) -> sqlx::Result<Vec<Unknown>> {
        let rows = sqlx::query(
            "select server_id, file_id, since from unknown_files
             where (?1 is null or server_id = ?1) and (?2 is null or (server_id, file_id) > (?2, ?3))
             order by server_id, file_id limit ?4",
        )
        .bind(server.map(ServerId::as_str))
        .bind(after.map(|(server, _)| server.as_str()))
        .bind(after.map(|(_, file)| file.as_bytes().to_vec()))
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        let read = |row: &SqliteRow| {
            Ok(Unknown {
                server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
                file: FileId::try_from(row.try_get::<&[u8], _>(1)?).map_err(corrupt)?,
                since: from_millis(row.try_get(2)?)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Whether a server was known to hold an unknown file.
    ///
    /// # Errors
    /// The database's.
    pub async fn holds_unknown(&self, server: &ServerId, files: &[FileId]) -> sqlx::Result<bool> {
        let asked: Vec<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let found = sqlx::query(
            "select 1 from unknown_files where server_id = ? and file_id in (select unhex(value) from json_each(?)) limit 1",
        )
        .bind(server.as_str())
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .fetch_optional(&self.readers)
        .await?;
        Ok(found.is_some())
    }
}

/// Notes what a server holds of unknown files among those that it asked about, and forgets the others of these.
///
/// # Errors
/// The database's.
pub async fn note(
    write: &mut Write,
    server: &ServerId,
    (unknown, others): (&[FileId], &[FileId]),
    now: Timestamp,
) -> sqlx::Result<()> {
    for file in unknown {
        sqlx::query("insert or ignore into unknown_files (server_id, file_id, since) values (?, ?, ?)")
            .bind(server.as_str())
            .bind(file.as_bytes().as_slice())
            .bind(now.as_millisecond())
            .execute(&mut **write)
            .await?;
    }
    for file in others {
        sqlx::query("delete from unknown_files where server_id = ? and file_id = ?")
            .bind(server.as_str())
            .bind(file.as_bytes().as_slice())
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

/// The servers that hold an unknown file.
///
/// # Errors
/// The database's.
pub async fn holders(write: &mut Write, file: FileId) -> sqlx::Result<Vec<ServerId>> {
    let names: Vec<String> =
        sqlx::query_scalar("select server_id from unknown_files where file_id = ? order by server_id")
            .bind(file.as_bytes().as_slice())
            .fetch_all(&mut **write)
            .await?;
    names.iter().map(|name| name.parse().map_err(corrupt)).collect()
}

/// Forgets that a file was unknown, wherever it is.
///
/// # Errors
/// The database's.
pub async fn forget(write: &mut Write, file: FileId) -> sqlx::Result<()> {
    sqlx::query("delete from unknown_files where file_id = ?")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(())
}
