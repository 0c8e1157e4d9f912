//! What each server is to hold, and whether it does.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{
    Digest, FileId, Runs, ServerId,
    event::{Fact, Stream},
};

use super::{Store, Write, corrupt, outbox, to_u64};

/// A server's part in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The server.
    pub server: ServerId,
    /// Whether it is to hold the file; none if nothing was ever decided about it.
    pub wanted: Option<bool>,
    /// The chunks it verified and synced, as it reported them.
    pub runs: Runs,
    /// What it computed once all are there.
    pub root: Option<Digest>,
}

impl Part {
    /// Whether the server is to hold the file.
    pub fn assigned(&self) -> bool {
        self.wanted == Some(true)
    }

    /// Whether the server was told to drop it.
    pub fn released(&self) -> bool {
        self.wanted == Some(false)
    }
}

impl Store {
    /// Everybody's part in a file.
    ///
    /// # Errors
    /// The database's.
    pub async fn parts(&self, file: FileId) -> sqlx::Result<Vec<Part>> {
        let rows = sqlx::query(
            "select concerned.server_id, wanted, runs, root
             from (select server_id from replicas where file_id = ?1
                   union select server_id from assignments where file_id = ?1) as concerned
             left join replicas on replicas.file_id = ?1 and replicas.server_id = concerned.server_id
             left join assignments on assignments.file_id = ?1 and assignments.server_id = concerned.server_id",
        )
        .bind(file.as_bytes().as_slice())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(read_part).collect()
    }

    /// Up to `most` files that a server is to hold; all of them are part of its snapshot.
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
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }
}

impl Store {
    /// How many replicas are on their way to each server, and their bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn in_flight(&self) -> sqlx::Result<BTreeMap<ServerId, (u32, u64)>> {
        let rows = sqlx::query(
            "select server_id, count(*), sum(size) from assignments join files on id = file_id
             where wanted = 1 and complete = 0 and state = 'available' group by server_id",
        )
        .fetch_all(&self.readers)
        .await?;
        let read = |row: &SqliteRow| {
            let bytes: i64 = row.try_get(2)?;
            Ok((row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?, (row.try_get(1)?, to_u64(bytes)?)))
        };
        rows.iter().map(read).collect()
    }

    /// How many files and bytes a server is to hold; what is left while it is being emptied.
    ///
    /// # Errors
    /// The database's.
    pub async fn held_by(&self, server: &ServerId) -> sqlx::Result<(u64, u64)> {
        let row = sqlx::query(
            "select count(*), coalesce(sum(size), 0) from assignments join files on id = file_id
             where server_id = ? and wanted = 1 and state <> 'deleting'",
        )
        .bind(server.as_str())
        .fetch_one(&self.readers)
        .await?;
        Ok((to_u64(row.try_get(0)?)?, to_u64(row.try_get(1)?)?))
    }
}

/// Has the planner look again at up to `most` files that a server is to hold, after `after`; where to go on, if there are more.
///
/// # Errors
/// The database's.
pub async fn unsettle_of(
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

fn read_part(row: &SqliteRow) -> sqlx::Result<Part> {
    let (runs, root): (Option<&str>, Option<&[u8]>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Part {
        server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
        wanted: row.try_get::<Option<i64>, _>(1)?.map(|wanted| wanted != 0),
        runs: runs.map(serde_json::from_str).transpose().map_err(corrupt)?.unwrap_or_default(),
        root: root.map(Digest::try_from).transpose().map_err(corrupt)?,
    })
}

/// Notes that a server is to hold a file, without telling it: it is being sent the chunks anyway.
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

/// Decides that a server is to hold a file, and tells it; the event's number.
///
/// # Errors
/// The database's.
pub async fn assign(write: &mut Write, file: FileId, server: &ServerId, now: Timestamp) -> sqlx::Result<u64> {
    expect(write, file, server, now).await?;
    judge(write, file).await?;
    outbox::append(write, &Stream::Server(server.clone()), &Fact::ReplicaAssigned { file }, now).await
}

/// Decides that a server need not hold a file any more, and tells it to drop what it has; the event's number.
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
    outbox::append(write, &Stream::Server(server.clone()), &Fact::ReplicaRemoved { file }, now).await
}

/// Sends those who are to hold a published file and do not yet to fetch the rest; the newest event's number.
///
/// # Errors
/// The database's.
pub async fn call(write: &mut Write, file: FileId, now: Timestamp) -> sqlx::Result<u64> {
    judge(write, file).await?;
    let late: Vec<String> =
        sqlx::query_scalar("select server_id from assignments where file_id = ? and wanted = 1 and complete = 0")
            .bind(file.as_bytes().as_slice())
            .fetch_all(&mut **write)
            .await?;
    let mut newest = 0;
    for server in late {
        let stream = Stream::Server(server.parse().map_err(corrupt)?);
        newest = outbox::append(write, &stream, &Fact::ReplicaAssigned { file }, now).await?;
    }
    Ok(newest)
}

/// Compares the newest reports of a file with what it is made of; whether that changed who is complete.
///
/// # Errors
/// The database's.
pub async fn judge(write: &mut Write, file: FileId) -> sqlx::Result<bool> {
    let judged = sqlx::query(
        "update assignments set complete = judged.complete
         from (select server_id, replicas.root is not null and replicas.root is files.root as complete
               from replicas join files on files.id = replicas.file_id where files.id = ?1) as judged
         where file_id = ?1 and assignments.server_id = judged.server_id and wanted = 1
             and assignments.complete <> judged.complete",
    )
    .bind(file.as_bytes().as_slice())
    .execute(&mut **write)
    .await?;
    if judged.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("update files set settled = 0 where id = ? and settled = 1")
        .bind(file.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(true)
}

/// Forgets who was to hold a file that is being removed everywhere.
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

/// Those who are to hold a file, once all of them do.
///
/// # Errors
/// The database's.
pub(crate) async fn wanted_and_complete(write: &mut Write, file: FileId) -> sqlx::Result<Option<Vec<ServerId>>> {
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
