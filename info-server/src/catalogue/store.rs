//! The rows of the catalogue.

pub mod orphans;
pub mod search;

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{
    ChunkLayout, ChunkSet, Digest, FileId, FileName, JobId, ServerId,
    catalogue::{FileState, Policy},
};

use crate::{
    catalogue::file::{CatalogueStatus, Content, File},
    db::{
        Database, Write,
        columns::{corrupt, from_millis, hex, to_i64, to_u64},
    },
};

pub(crate) const COLUMNS: &str =
    "files.id, files.name, size, chunk_size, media_type, state, quorum, owner, created_at, sha256, files.root,
     files.job_id, lost_chunks";

impl Database {
    /// Returns one file.
    ///
    /// # Errors
    /// The database's.
    pub async fn file(&self, id: FileId) -> sqlx::Result<Option<File>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("select {COLUMNS} from files where id = ?")))
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.readers())
            .await?;
        row.as_ref().map(read_file).transpose()
    }

    /// Returns the files that were announced since `since` and are being removed.
    ///
    /// # Errors
    /// The database's.
    pub async fn deleted(&self, since: Timestamp) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("select id from files where state = 'deleting' and created_at >= ?")
                .bind(since.as_millisecond())
                .fetch_all(self.readers())
                .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// Returns the catalogue's answer about files that a server holds, each once.
    ///
    /// # Errors
    /// The database's.
    pub async fn catalogue_status(
        &self,
        server: &ServerId,
        files: &[FileId],
    ) -> sqlx::Result<Vec<(FileId, CatalogueStatus)>> {
        let asked: BTreeSet<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let rows = sqlx::query(
            "select unhex(value), files.state,
                 exists (select 1 from assignments where file_id = files.id and server_id = ?2 and not wanted)
             from json_each(?1) left join files on files.id = unhex(value)",
        )
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .bind(server.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                let elsewhere = row.try_get::<i64, _>(2)? != 0;
                let status = match row.try_get::<Option<&str>, _>(1)? {
                    None => CatalogueStatus::Unknown,
                    Some("deleting") => CatalogueStatus::Unwanted,
                    Some(_) if elsewhere => CatalogueStatus::Unwanted,
                    Some(_) => CatalogueStatus::Wanted,
                };
                Ok((FileId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?, status))
            })
            .collect()
    }

    /// Returns uploads that were announced before `before` and never finished.
    ///
    /// # Errors
    /// The database's.
    pub async fn abandoned_uploads(&self, before: Timestamp, most: u32) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "select id from files where state = 'uploading' and job_id is null and created_at < ? limit ?",
        )
        .bind(before.as_millisecond())
        .bind(most)
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// Counts the files of which chunks are lost.
    ///
    /// # Errors
    /// The database's.
    pub async fn damaged_files(&self) -> sqlx::Result<u64> {
        let count = sqlx::query_scalar("select count(*) from files where lost_chunks is not null");
        to_u64(count.fetch_one(self.readers()).await?)
    }

    /// Returns a file's replication policy, as it was resolved when the file was announced.
    ///
    /// # Errors
    /// The database's.
    pub async fn policy(&self, id: FileId) -> sqlx::Result<Option<Policy>> {
        let text: Option<Option<String>> = sqlx::query_scalar("select policy from files where id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.readers())
            .await?;
        text.flatten().map(|text| serde_json::from_str(&text).map_err(corrupt)).transpose()
    }

    /// Returns the digests of a committed file's chunks, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn digests(&self, id: FileId) -> sqlx::Result<Option<Vec<Digest>>> {
        let raw: Option<Option<Vec<u8>>> = sqlx::query_scalar("select digests from files where id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.readers())
            .await?;
        raw.flatten().map(|raw| read_digests(&raw)).transpose()
    }
}

fn read_digests(raw: &[u8]) -> sqlx::Result<Vec<Digest>> {
    raw.chunks(wire::digest::DIGEST_LEN).map(|one| Digest::try_from(one).map_err(corrupt)).collect()
}

pub(crate) fn read_file(row: &SqliteRow) -> sqlx::Result<File> {
    let digest = |column: usize| -> sqlx::Result<Option<Digest>> {
        let raw: Option<&[u8]> = row.try_get(column)?;
        raw.map(Digest::try_from).transpose().map_err(corrupt)
    };
    let state = match row.try_get(5)? {
        "available" => FileState::Available,
        "uploading" => FileState::Uploading,
        _ => FileState::Deleting,
    };
    let lost_chunks: Option<&str> = row.try_get(12)?;
    Ok(File {
        id: FileId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?,
        name: row.try_get::<&str, _>(1)?.parse::<FileName>().map_err(corrupt)?,
        layout: ChunkLayout::checked(to_u64(row.try_get(2)?)?, to_u64(row.try_get(3)?)?).map_err(corrupt)?,
        media_type: row.try_get(4)?,
        state,
        quorum: row.try_get(6)?,
        owner: row.try_get(7)?,
        created_at: from_millis(row.try_get(8)?)?,
        content: digest(9)?.zip(digest(10)?).map(|(sha256, root)| Content { sha256, root }),
        job: row.try_get::<Option<&[u8]>, _>(11)?.map(JobId::try_from).transpose().map_err(corrupt)?,
        lost_chunks: lost_chunks.map(serde_json::from_str).transpose().map_err(corrupt)?.unwrap_or_default(),
    })
}

/// Adds a file to the catalogue.
///
/// # Errors
/// The database's.
pub async fn add(write: &mut Write, file: &File, policy: &Policy) -> sqlx::Result<()> {
    sqlx::query(
        "insert into files (id, name, size, chunk_size, media_type, state, quorum, owner, created_at, policy, job_id)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(file.id.as_bytes().as_slice())
    .bind(file.name.as_str())
    .bind(to_i64(file.layout.size()))
    .bind(to_i64(file.layout.chunk_size()))
    .bind(&file.media_type)
    .bind(file.state.as_str())
    .bind(file.quorum)
    .bind(file.owner)
    .bind(file.created_at.as_millisecond())
    .bind(serde_json::to_string(policy).map_err(corrupt)?)
    .bind(file.job.map(|job| job.as_bytes().to_vec()))
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Gives a file another name; returns false when it is unknown or being removed.
///
/// # Errors
/// The database's.
pub async fn rename(write: &mut Write, id: FileId, name: &FileName) -> sqlx::Result<bool> {
    let renamed = sqlx::query("update files set name = ? where id = ? and state <> 'deleting'")
        .bind(name.as_str())
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    sqlx::query("update names set name = ? where file_id = ?")
        .bind(name.as_str())
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(renamed.rows_affected() == 1)
}

/// Replaces a file's replication policy.
///
/// # Errors
/// The database's.
pub async fn set_policy(write: &mut Write, id: FileId, policy: &Policy) -> sqlx::Result<()> {
    sqlx::query("update files set policy = ? where id = ?")
        .bind(serde_json::to_string(policy).map_err(corrupt)?)
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Stores the chunks of a published file that no file server holds any more; returns false when the file is no longer there.
///
/// # Errors
/// The database's.
pub async fn set_lost_chunks(write: &mut Write, id: FileId, lost: &ChunkSet) -> sqlx::Result<bool> {
    let lost = (!lost.is_empty()).then(|| serde_json::to_string(lost)).transpose().map_err(corrupt)?;
    let done = sqlx::query("update files set lost_chunks = ? where id = ? and state = 'available'")
        .bind(lost)
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Fixes the content of an announced file; returns false when it is no longer *uploading*.
///
/// # Errors
/// The database's.
pub async fn publish(write: &mut Write, id: FileId, content: Content, digests: &[Digest]) -> sqlx::Result<bool> {
    let raw: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
    let done = sqlx::query(
        "update files set state = 'available', sha256 = ?, root = ?, digests = ? where id = ? and state = 'uploading'",
    )
    .bind(content.sha256.as_bytes().as_slice())
    .bind(content.root.as_bytes().as_slice())
    .bind(raw)
    .bind(id.as_bytes().as_slice())
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes removed files whose removal every server has taken in (`seen`) and that no upload token can bring back, because
/// they were announced `before` the oldest living one: no server can hold them any more.
///
/// # Errors
/// The database's.
pub async fn purge(write: &mut Write, seen: u64, before: Timestamp, most: u32) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from files where id in
             (select id from files where state = 'deleting' and deleted_seq <= ? and created_at < ? limit ?)",
    )
    .bind(to_i64(seen))
    .bind(before.as_millisecond())
    .bind(most)
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected())
}

/// Marks a file as being removed and forgets its content; false when it was so already. That it was there stays until [`purge`].
/// Whatever else belongs to a removal follows in the same transaction: `replication::removal::remove_file`.
///
/// # Errors
/// The database's.
pub(crate) async fn mark_deleting(write: &mut Write, id: FileId) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update files set state = 'deleting', sha256 = null, root = null, digests = null, lost_chunks = null
         where id = ? and state <> 'deleting'",
    )
    .bind(id.as_bytes().as_slice())
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks an upload that was announced before `before`, as [`mark_deleting`]; false if it is published or was removed meanwhile.
///
/// # Errors
/// The database's.
pub(crate) async fn mark_upload_deleting(write: &mut Write, id: FileId, before: Timestamp) -> sqlx::Result<bool> {
    let done =
        sqlx::query("update files set state = 'deleting' where id = ? and state = 'uploading' and created_at < ?")
            .bind(id.as_bytes().as_slice())
            .bind(before.as_millisecond())
            .execute(&mut **write)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Stores the number of the event that announces a removal.
///
/// # Errors
/// The database's.
pub(crate) async fn note_deletion(write: &mut Write, id: FileId, seq: u64) -> sqlx::Result<()> {
    sqlx::query("update files set deleted_seq = ? where id = ?")
        .bind(to_i64(seq))
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(())
}
