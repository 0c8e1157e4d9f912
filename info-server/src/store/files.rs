//! The catalogue.

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{
    Digest, FileId, FileName, Layout, ServerId,
    catalog::FileState,
    event::{Fact, Stream},
};

use super::{Store, Write, corrupt, from_millis, outbox, to_i64, to_u64};

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
}

/// What a committed file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of all bytes.
    pub sha256: Digest,
    /// SHA-256 of the concatenated chunk digests.
    pub root: Digest,
}

const COLUMNS: &str =
    "files.id, name, size, chunk_size, media_type, state, quorum, owner, created_at, sha256, files.root";

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

    /// Up to `most` entries older than `before`, newest first, whose names contain `part`, each with the number of its
    /// complete replicas on `live` servers.
    ///
    /// # Errors
    /// The database's.
    pub async fn files(
        &self,
        part: &str,
        before: Option<FileId>,
        most: u32,
        live: &[ServerId],
    ) -> sqlx::Result<Vec<(File, u32)>> {
        let sql = format!(
            "select {COLUMNS},
                 (select count(*) from replicas where file_id = files.id and replicas.root = files.root
                      and server_id in (select value from json_each(?1)))
             from files
             where state <> 'deleting' and (?2 is null or id < ?2) and instr(lower(name), lower(?3)) > 0
             order by id desc limit ?4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(serde_json::to_string(live).map_err(corrupt)?)
            .bind(before.map(|id| id.as_bytes().to_vec()))
            .bind(part)
            .bind(most)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((read_file(row)?, row.try_get(11)?))).collect()
    }

    /// The files that are being removed: part of every snapshot.
    ///
    /// # Errors
    /// The database's.
    pub async fn deleted(&self) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("select id from files where state = 'deleting'").fetch_all(&self.readers).await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// Uploads that were announced before `before` and never finished.
    ///
    /// # Errors
    /// The database's.
    pub async fn abandoned(&self, before: Timestamp, most: u32) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("select id from files where state = 'uploading' and created_at < ? limit ?")
                .bind(before.as_millisecond())
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

fn read_file(row: &SqliteRow) -> sqlx::Result<File> {
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
    })
}

/// Announces a file.
///
/// # Errors
/// The database's.
pub async fn add(write: &mut Write, file: &File) -> sqlx::Result<()> {
    sqlx::query(
        "insert into files (id, name, size, chunk_size, media_type, state, quorum, owner, created_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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

/// Marks a file as being removed and tells every server; the event's number, or `None` when it was so already.
///
/// # Errors
/// The database's.
pub async fn remove(write: &mut Write, id: FileId, now: Timestamp) -> sqlx::Result<Option<u64>> {
    let done = sqlx::query("update files set state = 'deleting' where id = ? and state <> 'deleting'")
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    outbox::append(write, &Stream::All, &Fact::FileDeleted { file: id }, now).await.map(Some)
}
