//! What each server holds of each file, by its own report.

use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{Digest, FileId, Runs, ServerId, server::ReplicaReport};

use super::{Store, Write, corrupt, to_i64};

/// A server's replica of a file.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The server.
    pub server: ServerId,
    /// The chunks it has verified and synced.
    pub runs: Runs,
    /// What it computed once all are there.
    pub root: Option<Digest>,
}

impl Store {
    /// The replicas of a file.
    ///
    /// # Errors
    /// The database's.
    pub async fn replicas(&self, file: FileId) -> sqlx::Result<Vec<Replica>> {
        let rows = sqlx::query("select server_id, runs, root from replicas where file_id = ? order by server_id")
            .bind(file.as_bytes().as_slice())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(read_replica).collect()
    }

    /// The holders of a file's published chunks that found another SHA-256 of the whole than its publisher said, and which.
    ///
    /// # Errors
    /// The database's.
    pub async fn disagreeing(&self, file: FileId) -> sqlx::Result<Vec<(ServerId, Digest)>> {
        let rows = sqlx::query(
            "select server_id, replicas.sha256 from replicas join files on files.id = file_id
             where file_id = ? and replicas.root = files.root and replicas.sha256 <> files.sha256",
        )
        .bind(file.as_bytes().as_slice())
        .fetch_all(&self.readers)
        .await?;
        let read = |row: &SqliteRow| {
            let server = row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?;
            Ok((server, Digest::try_from(row.try_get::<&[u8], _>(1)?).map_err(corrupt)?))
        };
        rows.iter().map(read).collect()
    }
}

fn read_replica(row: &SqliteRow) -> sqlx::Result<Replica> {
    let root: Option<&[u8]> = row.try_get(2)?;
    Ok(Replica {
        server: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
        runs: serde_json::from_str(row.try_get(1)?).map_err(corrupt)?,
        root: root.map(Digest::try_from).transpose().map_err(corrupt)?,
    })
}

/// Stores a report unless a newer one of the same server is there; the file must exist.
///
/// # Errors
/// The database's.
pub async fn report(write: &mut Write, file: FileId, server: &ServerId, report: &ReplicaReport) -> sqlx::Result<()> {
    let runs = serde_json::to_string(&report.runs).map_err(corrupt)?;
    sqlx::query(
        "insert into replicas (file_id, server_id, counter, runs, root, sha256) values (?, ?, ?, ?, ?, ?)
         on conflict (file_id, server_id) do update set counter = excluded.counter, runs = excluded.runs,
             root = excluded.root, sha256 = excluded.sha256
         where excluded.counter > counter",
    )
    .bind(file.as_bytes().as_slice())
    .bind(server.as_str())
    .bind(to_i64(report.counter))
    .bind(runs)
    .bind(report.root.as_ref().map(|root| root.as_bytes().as_slice()))
    .bind(report.sha256.as_ref().map(|sha256| sha256.as_bytes().as_slice()))
    .execute(&mut **write)
    .await?;
    Ok(())
}
