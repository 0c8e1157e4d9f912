//! The catalogue.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{
    Digest, FileId, FileName, JobId, Layout, ServerId,
    catalog::{FileState, Policy, Preheat},
    event::{Fact, Stream},
};

use crate::replication::plan::Want;

use super::{Store, Write, assignments, corrupt, from_millis, hex, outbox, to_i64, to_u64};

/// A catalogue entry.
#[derive(Debug, Clone)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// Its name.
    pub name: FileName,
    /// How it is cut.
    pub layout: Layout,
    /// What kind of content it is.
    pub media_type: Option<String>,
    /// What it is now.
    pub state: FileState,
    /// Replicas needed before it counts as published.
    pub quorum: u32,
    /// Who announced it.
    pub owner: i64,
    /// When.
    pub created_at: Timestamp,
    /// What it is made of, once it is committed.
    pub content: Option<Content>,
    /// The job that makes it: its askers alone see it.
    pub job: Option<JobId>,
}

/// What a committed file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of all bytes.
    pub sha256: Digest,
    /// SHA-256 of the concatenated chunk digests.
    pub root: Digest,
}

/// What the catalogue says of a file that a server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may stand there.
    Wanted,
    /// It was deleted, or is to stand elsewhere.
    Unwanted,
    /// There is no such file.
    Unknown,
}

pub(super) const COLUMNS: &str =
    "files.id, files.name, size, chunk_size, media_type, state, quorum, owner, created_at, sha256, files.root,
     files.job_id";

impl Store {
    /// One entry.
    ///
    /// # Errors
    /// The database's.
    pub async fn file(&self, id: FileId) -> sqlx::Result<Option<File>> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("select {COLUMNS} from files where id = ?")))
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read_file).transpose()
    }

    /// The files that were announced since `since` and are being removed.
    ///
    /// # Errors
    /// The database's.
    pub async fn deleted(&self, since: Timestamp) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("select id from files where state = 'deleting' and created_at >= ?")
                .bind(since.as_millisecond())
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// What the catalogue says of files that a server holds, each once.
    ///
    /// # Errors
    /// The database's.
    pub async fn standings(&self, server: &ServerId, files: &[FileId]) -> sqlx::Result<Vec<(FileId, Standing)>> {
        let asked: BTreeSet<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let rows = sqlx::query(
            "select unhex(value), files.state,
                 exists (select 1 from assignments where file_id = files.id and server_id = ?2 and not wanted)
             from json_each(?1) left join files on files.id = unhex(value)",
        )
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .bind(server.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let elsewhere = row.try_get::<i64, _>(2)? != 0;
                let standing = match row.try_get::<Option<&str>, _>(1)? {
                    None => Standing::Unknown,
                    Some("deleting") => Standing::Unwanted,
                    Some(_) if elsewhere => Standing::Unwanted,
                    Some(_) => Standing::Wanted,
                };
                Ok((FileId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?, standing))
            })
            .collect()
    }

    /// Uploads that were announced before `before` and never finished.
    ///
    /// # Errors
    /// The database's.
    pub async fn abandoned(&self, before: Timestamp, most: u32) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "select id from files where state = 'uploading' and job_id is null and created_at < ? limit ?",
        )
        .bind(before.as_millisecond())
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// Where a file should stand, as it was resolved when it was announced.
    ///
    /// # Errors
    /// The database's.
    pub async fn policy(&self, id: FileId) -> sqlx::Result<Option<Policy>> {
        let text: Option<Option<String>> = sqlx::query_scalar("select policy from files where id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await?;
        text.flatten().map(|text| serde_json::from_str(&text).map_err(corrupt)).transpose()
    }

    /// The further zones that a file was asked to stand in.
    ///
    /// # Errors
    /// The database's.
    pub async fn preheats(&self, id: FileId) -> sqlx::Result<Vec<Want>> {
        let rows = sqlx::query("select zone, replicas from preheats where file_id = ? order by zone")
            .bind(id.as_bytes().as_slice())
            .fetch_all(&self.readers)
            .await?;
        let read = |row: &SqliteRow| {
            let zone = row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?;
            Ok(Want { zone: Some(zone), replicas: row.try_get(1)? })
        };
        rows.iter().map(read).collect()
    }

    /// Published files that are not known to stand as they should.
    ///
    /// # Errors
    /// The database's.
    pub async fn unsettled(&self, after: Option<FileId>, most: u32) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "select id from files where state = 'available' and settled = 0 and id > ? order by id limit ?",
        )
        .bind(after.map_or_else(Vec::new, |id| id.as_bytes().to_vec()))
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// The digests of a committed file's chunks, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn digests(&self, id: FileId) -> sqlx::Result<Option<Vec<Digest>>> {
        let raw: Option<Option<Vec<u8>>> = sqlx::query_scalar("select digests from files where id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await?;
        raw.flatten().map(|raw| read_digests(&raw)).transpose()
    }
}

fn read_digests(raw: &[u8]) -> sqlx::Result<Vec<Digest>> {
    raw.chunks(wire::digest::DIGEST_LEN).map(|one| Digest::try_from(one).map_err(corrupt)).collect()
}

pub(super) fn read_file(row: &SqliteRow) -> sqlx::Result<File> {
    let digest = |column: usize| -> sqlx::Result<Option<Digest>> {
        let raw: Option<&[u8]> = row.try_get(column)?;
        raw.map(Digest::try_from).transpose().map_err(corrupt)
    };
    let state = match row.try_get(5)? {
        "available" => FileState::Available,
        "uploading" => FileState::Uploading,
        _ => FileState::Deleting,
    };
    Ok(File {
        id: FileId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?,
        name: row.try_get::<&str, _>(1)?.parse::<FileName>().map_err(corrupt)?,
        layout: Layout::checked(to_u64(row.try_get(2)?)?, to_u64(row.try_get(3)?)?).map_err(corrupt)?,
        media_type: row.try_get(4)?,
        state,
        quorum: row.try_get(6)?,
        owner: row.try_get(7)?,
        created_at: from_millis(row.try_get(8)?)?,
        content: digest(9)?.zip(digest(10)?).map(|(sha256, root)| Content { sha256, root }),
        job: row.try_get::<Option<&[u8]>, _>(11)?.map(JobId::try_from).transpose().map_err(corrupt)?,
    })
}

/// Announces a file.
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

/// Fixes the content of an announced file; false when it is no longer *uploading*.
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

/// Notes whether a published file stands as it should; false when it is no longer there.
///
/// # Errors
/// The database's.
pub async fn settle(write: &mut Write, id: FileId, settled: bool) -> sqlx::Result<bool> {
    let done = sqlx::query("update files set settled = ? where id = ? and state = 'available'")
        .bind(i64::from(settled))
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Has the planner look again at those of `most` files after `after` that some server has not completed; where to go on,
/// if there are more.
///
/// # Errors
/// The database's.
pub async fn unsettle_doubtful(write: &mut Write, after: Option<FileId>, most: u32) -> sqlx::Result<Option<FileId>> {
    let page: Vec<Vec<u8>> = sqlx::query_scalar("select id from files where id > ? order by id limit ?")
        .bind(after.map_or_else(Vec::new, |id| id.as_bytes().to_vec()))
        .bind(most)
        .fetch_all(&mut **write)
        .await?;
    let Some(last) = page.last() else { return Ok(None) };
    sqlx::query(
        "update files set settled = 0 where settled = 1 and id > ? and id <= ? and exists
             (select 1 from assignments where file_id = id and wanted = 1 and complete = 0)",
    )
    .bind(after.map_or_else(Vec::new, |id| id.as_bytes().to_vec()))
    .bind(last.as_slice())
    .execute(&mut **write)
    .await?;
    let more = u32::try_from(page.len()).is_ok_and(|count| count == most);
    more.then(|| FileId::try_from(last.as_slice()).map_err(corrupt)).transpose()
}

/// Asks for a published file in one more zone, or for more replicas there; false when it is no longer there.
///
/// # Errors
/// The database's.
pub async fn preheat(write: &mut Write, id: FileId, asked: &Preheat, replicas: u32) -> sqlx::Result<bool> {
    if !settle(write, id, false).await? {
        return Ok(false);
    }
    sqlx::query(
        "insert into preheats (file_id, zone, replicas) values (?, ?, ?)
         on conflict (file_id, zone) do update set replicas = max(replicas, excluded.replicas)",
    )
    .bind(id.as_bytes().as_slice())
    .bind(asked.zone.as_str())
    .bind(replicas)
    .execute(&mut **write)
    .await?;
    Ok(true)
}

/// Marks a file as being removed and tells every server; the event's number, or `None` when it was so already. What it was
/// made of is forgotten at once; that it was stays until [`purge`].
///
/// # Errors
/// The database's.
pub async fn remove(write: &mut Write, id: FileId, now: Timestamp) -> sqlx::Result<Option<u64>> {
    let done = sqlx::query(
        "update files set state = 'deleting', sha256 = null, root = null, digests = null
         where id = ? and state <> 'deleting'",
    )
    .bind(id.as_bytes().as_slice())
    .execute(&mut **write)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    assignments::forget(write, id).await?;
    let seq = outbox::append(write, &Stream::All, &Fact::FileDeleted { file: id }, now).await?;
    sqlx::query("update files set deleted_seq = ? where id = ?")
        .bind(to_i64(seq))
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(Some(seq))
}

/// Forgets removed files whose removal every server has taken in (`seen`) and that no upload token can bring back, because
/// they were announced `before` the oldest living one: nobody can hold them any more who would have to be told.
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
