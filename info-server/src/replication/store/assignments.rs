//! The assignments: the files that each server is to hold, and whether it does.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{
    ChunkSet, Digest, FileId, ServerId,
    event::{EventPayload, Stream},
};

use crate::{
    db::{
        Database, Write,
        columns::{corrupt, to_u64},
    },
    events::outbox,
};

/// A server's orders about a file, and its reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// The server.
    pub server: ServerId,
    /// Set if it was assigned to the file, unset if it was released from it; none if it was neither.
    pub wanted: Option<bool>,
    /// Chunks that it verified and synced, as it reported them.
    pub runs: ChunkSet,
    /// Root that it computed once all chunks were there.
    pub root: Option<Digest>,
    /// SHA-256 of the whole that it computed once all chunks were there.
    pub sha256: Option<Digest>,
    /// Set if it ever reported.
    pub reported: bool,
    /// Chunks that it reported once and holds no longer.
    pub dropped: ChunkSet,
}

/// Files that a server is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignedFiles {
    /// Number of files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Replicas on their way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Number of replicas.
    pub replicas: u32,
    /// Bytes in them.
    pub bytes: u64,
}

impl ReplicaRecord {
    /// Returns true if the server is to hold the file.
    pub fn assigned(&self) -> bool {
        self.wanted == Some(true)
    }

    /// Returns true if the server was released from the file.
    pub fn released(&self) -> bool {
        self.wanted == Some(false)
    }
}

impl Database {
    /// Returns each server's orders about a file and its reports.
    ///
    /// # Errors
    /// The database's.
    pub async fn replica_records(&self, file: FileId) -> sqlx::Result<Vec<ReplicaRecord>> {
        let rows = sqlx::query(
            "select concerned.server_id, wanted, runs, root, dropped, sha256
             from (select server_id from replicas where file_id = ?1
                   union select server_id from assignments where file_id = ?1) as concerned
             left join replicas on replicas.file_id = ?1 and replicas.server_id = concerned.server_id
             left join assignments on assignments.file_id = ?1 and assignments.server_id = concerned.server_id",
        )
        .bind(file.as_bytes().as_slice())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(read_record).collect()
    }

    /// Returns up to `most` files that a server is to hold; all of them are part of its snapshot.
    ///
    /// # Errors
    /// The database's.
    pub async fn assigned_to(&self, server: &ServerId, most: u32) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "select file_id from assignments where server_id = ? and wanted = 1
                 and exists (select 1 from files where id = file_id and state = 'available')
             limit ?",
        )
        .bind(server.as_str())
        .bind(most)
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// Counts the replicas on their way to each server, and their bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn in_flight(&self) -> sqlx::Result<BTreeMap<ServerId, InFlight>> {
        let rows = sqlx::query(
            "select server_id, count(*), sum(size) from assignments join files on id = file_id
             where wanted = 1 and complete = 0 and state = 'available' group by server_id",
        )
        .fetch_all(self.readers())
        .await?;
        let read = |row: &SqliteRow| {
            let bytes: i64 = row.try_get(2)?;
            let in_flight = InFlight { replicas: row.try_get(1)?, bytes: to_u64(bytes)? };
            Ok((row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?, in_flight))
        };
        rows.iter().map(read).collect()
    }

    /// Counts the files that a server is to hold, and their bytes: what is left while it is draining.
    ///
    /// # Errors
    /// The database's.
    pub async fn held_by(&self, server: &ServerId) -> sqlx::Result<AssignedFiles> {
        let row = sqlx::query(
            "select count(*), coalesce(sum(size), 0) from assignments join files on id = file_id
             where server_id = ? and wanted = 1 and state <> 'deleting'",
        )
        .bind(server.as_str())
        .fetch_one(self.readers())
        .await?;
        Ok(AssignedFiles { files: to_u64(row.try_get(0)?)?, bytes: to_u64(row.try_get(1)?)? })
    }
}

/// Marks up to `most` files that a server is to hold, after `after`, as unconverged; returns the file to go on after, if there are
/// more.
///
/// # Errors
/// The database's.
pub async fn mark_unconverged(
    write: &mut Write,
    server: &ServerId,
    after: Option<FileId>,
    most: u32,
) -> sqlx::Result<Option<FileId>> {
    let page: Vec<Vec<u8>> = sqlx::query_scalar(
        "select file_id from assignments where server_id = ?1 and wanted = 1 and (?2 is null or file_id > ?2)
         order by file_id limit ?3",
    )
    .bind(server.as_str())
    .bind(after.map(|id| id.as_bytes().to_vec()))
    .bind(most)
    .fetch_all(&mut **write)
    .await?;
    let last = page.last().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).transpose()?;
    if let Some(last) = last {
        sqlx::query(
            "update files set settled = 0 where settled = 1 and id in
                 (select file_id from assignments where server_id = ?1 and wanted = 1 and (?2 is null or file_id > ?2)
                      and file_id <= ?3)",
        )
        .bind(server.as_str())
        .bind(after.map(|id| id.as_bytes().to_vec()))
        .bind(last.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    }
    Ok(last.filter(|_| u32::try_from(page.len()).is_ok_and(|count| count == most)))
}

fn read_record(row: &SqliteRow) -> sqlx::Result<ReplicaRecord> {
    let (runs, root): (Option<&str>, Option<&[u8]>) = (row.try_get(2)?, row.try_get(3)?);
    let (dropped, sha256): (Option<&str>, Option<&[u8]>) = (row.try_get(4)?, row.try_get(5)?);
    Ok(ReplicaRecord {
        server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
        wanted: row.try_get::<Option<i64>, _>(1)?.map(|wanted| wanted != 0),
        reported: runs.is_some(),
        runs: runs.map(serde_json::from_str).transpose().map_err(corrupt)?.unwrap_or_default(),
        root: root.map(Digest::try_from).transpose().map_err(corrupt)?,
        sha256: sha256.map(Digest::try_from).transpose().map_err(corrupt)?,
        dropped: dropped.map(serde_json::from_str).transpose().map_err(corrupt)?.unwrap_or_default(),
    })
}

/// Stores that a server is to hold a file, without an event: its publisher sends it the chunks anyway.
///
/// # Errors
/// The database's.
pub async fn expect(write: &mut Write, file: FileId, server: &ServerId, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query(
        "insert into assignments (file_id, server_id, wanted, since) values (?, ?, 1, ?)
         on conflict (file_id, server_id) do update set wanted = 1, since = excluded.since where wanted = 0",
    )
    .bind(file.as_bytes().as_slice())
    .bind(server.as_str())
    .bind(now.as_millisecond())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Assigns a file to a server; returns the event's number.
///
/// # Errors
/// The database's.
pub async fn assign(write: &mut Write, file: FileId, server: &ServerId, now: Timestamp) -> sqlx::Result<u64> {
    expect(write, file, server, now).await?;
    update_completeness(write, file).await?;
    outbox::append(write, &Stream::Server(server.clone()), &EventPayload::ReplicaAssigned { file }, now).await
}

/// Releases a server from a file, so that it drops its chunks; returns the event's number.
///
/// # Errors
/// The database's.
pub async fn release(write: &mut Write, file: FileId, server: &ServerId, now: Timestamp) -> sqlx::Result<u64> {
    sqlx::query(
        "insert into assignments (file_id, server_id, wanted, since) values (?, ?, 0, ?)
         on conflict (file_id, server_id) do update set wanted = 0, complete = 0, since = excluded.since",
    )
    .bind(file.as_bytes().as_slice())
    .bind(server.as_str())
    .bind(now.as_millisecond())
    .execute(&mut **write)
    .await?;
    outbox::append(write, &Stream::Server(server.clone()), &EventPayload::ReplicaRemoved { file }, now).await
}

/// Has the servers that lack chunks of a published file fetch them; returns the newest event's number.
///
/// # Errors
/// The database's.
pub async fn assign_incomplete(write: &mut Write, file: FileId, now: Timestamp) -> sqlx::Result<u64> {
    update_completeness(write, file).await?;
    let incomplete: Vec<String> =
        sqlx::query_scalar("select server_id from assignments where file_id = ? and wanted = 1 and complete = 0")
            .bind(file.as_bytes().as_slice())
            .fetch_all(&mut **write)
            .await?;
    let mut newest = 0;
    for server in incomplete {
        let stream = Stream::Server(server.parse().map_err(corrupt)?);
        newest = outbox::append(write, &stream, &EventPayload::ReplicaAssigned { file }, now).await?;
    }
    Ok(newest)
}

/// Compares the newest reports of a file with its root; returns true if that changed which servers are complete.
///
/// # Errors
/// The database's.
pub async fn update_completeness(write: &mut Write, file: FileId) -> sqlx::Result<bool> {
    let compared = sqlx::query(
        "update assignments set complete = compared.complete
         from (select server_id, replicas.root is not null and replicas.root is files.root as complete
               from replicas join files on files.id = replicas.file_id where files.id = ?1) as compared
         where file_id = ?1 and assignments.server_id = compared.server_id and wanted = 1
             and assignments.complete <> compared.complete",
    )
    .bind(file.as_bytes().as_slice())
    .execute(&mut **write)
    .await?;
    if compared.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("update files set settled = 0 where id = ? and settled = 1")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(true)
}

/// Deletes the assignments and preheats of a file that is being removed.
///
/// # Errors
/// The database's.
pub async fn forget(write: &mut Write, file: FileId) -> sqlx::Result<()> {
    sqlx::query("delete from assignments where file_id = ?")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    sqlx::query("delete from preheats where file_id = ?")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Returns the servers that are to hold a file, once all of them do.
///
/// # Errors
/// The database's.
pub(crate) async fn complete_assignees(write: &mut Write, file: FileId) -> sqlx::Result<Option<Vec<ServerId>>> {
    let rows = sqlx::query("select server_id, complete from assignments where file_id = ? and wanted = 1")
        .bind(file.as_bytes().as_slice())
        .fetch_all(&mut **write)
        .await?;
    let mut servers = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<i64, _>(1)? == 0 {
            return Ok(None);
        }
        servers.push(row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?);
    }
    Ok((!servers.is_empty()).then_some(servers))
}
