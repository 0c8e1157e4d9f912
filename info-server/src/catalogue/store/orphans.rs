//! Orphaned files: file servers hold them, and the catalogue does not list them (the table `unknown_files`).

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{FileId, ServerId};

use crate::{
    catalogue::orphan::{OrphanCount, OrphanKey, OrphanedFile},
    db::{
        Database, Write,
        columns::{corrupt, from_millis, hex, to_u64},
    },
};

impl Database {
    /// Counts the orphaned files of each server that has any.
    ///
    /// # Errors
    /// The database's.
    pub async fn orphan_counts(&self) -> sqlx::Result<Vec<OrphanCount>> {
        let rows = sqlx::query("select server_id, count(*) from unknown_files group by server_id order by server_id")
            .fetch_all(self.readers())
            .await?;
        let read = |row: &SqliteRow| {
            Ok(OrphanCount {
                server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
                files: to_u64(row.try_get(1)?)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Returns up to `most` orphaned files of a server, or of all, after one of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn orphans(
        &self,
        server: Option<&ServerId>,
        after: Option<&OrphanKey>,
        most: u32,
    ) -> sqlx::Result<Vec<OrphanedFile>> {
        let rows = sqlx::query(
            "select server_id, file_id, since from unknown_files
             where (?1 is null or server_id = ?1) and (?2 is null or (server_id, file_id) > (?2, ?3))
             order by server_id, file_id limit ?4",
        )
        .bind(server.map(ServerId::as_str))
        .bind(after.map(|key| key.server.as_str()))
        .bind(after.map(|key| key.file.as_bytes().to_vec()))
        .bind(most)
        .fetch_all(self.readers())
        .await?;
        let read = |row: &SqliteRow| {
            Ok(OrphanedFile {
                server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
                file: FileId::try_from(row.try_get::<&[u8], _>(1)?).map_err(corrupt)?,
                since: from_millis(row.try_get(2)?)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Returns true if a server is known to hold one of these files as an orphaned one.
    ///
    /// # Errors
    /// The database's.
    pub async fn holds_orphan(&self, server: &ServerId, files: &[FileId]) -> sqlx::Result<bool> {
        let asked: Vec<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let found = sqlx::query(
            "select 1 from unknown_files where server_id = ? and file_id in (select unhex(value) from json_each(?)) limit 1",
        )
        .bind(server.as_str())
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .fetch_optional(self.readers())
        .await?;
        Ok(found.is_some())
    }
}

/// Files that a server asked about, as the catalogue answered.
#[derive(Debug, Clone, Copy)]
pub struct CheckedFiles<'a> {
    /// Files that the catalogue lacks.
    pub orphaned: &'a [FileId],
    /// The others.
    pub known: &'a [FileId],
}

/// Notes the orphaned files among those that a server asked about, and forgets the notes of the others.
///
/// # Errors
/// The database's.
pub async fn note(write: &mut Write, server: &ServerId, checked: CheckedFiles<'_>, now: Timestamp) -> sqlx::Result<()> {
    for file in checked.orphaned {
        sqlx::query("insert or ignore into unknown_files (server_id, file_id, since) values (?, ?, ?)")
            .bind(server.as_str())
            .bind(file.as_bytes().as_slice())
            .bind(now.as_millisecond())
            .execute(&mut **write)
            .await?;
    }
    for file in checked.known {
        sqlx::query("delete from unknown_files where server_id = ? and file_id = ?")
            .bind(server.as_str())
            .bind(file.as_bytes().as_slice())
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

/// Forgets an orphaned file that a server no longer holds: an operator had it removed. Returns false if it was not orphaned there.
///
/// # Errors
/// The database's.
pub async fn forget_removed(db: &Database, server: &ServerId, file: FileId) -> sqlx::Result<bool> {
    if !db.holds_orphan(server, &[file]).await? {
        return Ok(false);
    }
    let mut write = db.write().await?;
    note(&mut write, server, CheckedFiles { orphaned: &[], known: &[file] }, Timestamp::now()).await?;
    write.commit().await?;
    Ok(true)
}

/// Returns the servers that hold an orphaned file.
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

/// Forgets that a file was orphaned, on every server.
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
