//! The replicas that servers reported.

use std::collections::BTreeSet;

use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{ChunkSet, Digest, FileId, ServerId, catalogue::DigestConflict, server::ReplicaReport};

use crate::db::{
    Database, Write,
    columns::{corrupt, hex, to_i64},
};

/// A server's replica of a file, by its own report.
#[derive(Debug, Clone)]
pub struct ReportedReplica {
    /// The server.
    pub server: ServerId,
    /// Chunks that it verified and synced.
    pub runs: ChunkSet,
    /// Root that it computed once all chunks were there.
    pub root: Option<Digest>,
}

impl Database {
    /// Returns the reported replicas of a file.
    ///
    /// # Errors
    /// The database's.
    pub async fn replicas(&self, file: FileId) -> sqlx::Result<Vec<ReportedReplica>> {
        let rows = sqlx::query("select server_id, runs, root from replicas where file_id = ? order by server_id")
            .bind(file.as_bytes().as_slice())
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(read_replica).collect()
    }

    /// Returns the holders of a file's published chunks whose SHA-256 of the whole is another than its publisher's.
    ///
    /// # Errors
    /// The database's.
    pub async fn digest_conflicts(&self, file: FileId) -> sqlx::Result<Vec<DigestConflict>> {
        let rows = sqlx::query(
            "select server_id, replicas.sha256 from replicas join files on files.id = file_id
             where file_id = ? and replicas.root = files.root and replicas.sha256 <> files.sha256",
        )
        .bind(file.as_bytes().as_slice())
        .fetch_all(self.readers())
        .await?;
        let read = |row: &SqliteRow| {
            let server = row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?;
            Ok(DigestConflict { server, sha256: Digest::try_from(row.try_get::<&[u8], _>(1)?).map_err(corrupt)? })
        };
        rows.iter().map(read).collect()
    }

    /// Returns those of some files of which a holder computed another SHA-256 than the publisher's.
    ///
    /// # Errors
    /// The database's.
    pub async fn disputed(&self, files: &[FileId]) -> sqlx::Result<BTreeSet<FileId>> {
        let asked: Vec<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "select distinct file_id from json_each(?) join files on files.id = unhex(value)
             join replicas on file_id = files.id and replicas.root = files.root and replicas.sha256 <> files.sha256",
        )
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }
}

fn read_replica(row: &SqliteRow) -> sqlx::Result<ReportedReplica> {
    let root: Option<&[u8]> = row.try_get(2)?;
    Ok(ReportedReplica {
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
    let dropped = dropped_chunks(write, file, server, report).await?;
    let dropped = (!dropped.is_empty()).then(|| serde_json::to_string(&dropped)).transpose().map_err(corrupt)?;
    sqlx::query(
        "insert into replicas (file_id, server_id, counter, runs, root, sha256, dropped) values (?, ?, ?, ?, ?, ?, ?)
         on conflict (file_id, server_id) do update set counter = excluded.counter, runs = excluded.runs,
             root = excluded.root, sha256 = excluded.sha256, dropped = excluded.dropped
         where excluded.counter > counter",
    )
    .bind(file.as_bytes().as_slice())
    .bind(server.as_str())
    .bind(to_i64(report.counter))
    .bind(runs)
    .bind(report.root.as_ref().map(|root| root.as_bytes().as_slice()))
    .bind(report.sha256.as_ref().map(|sha256| sha256.as_bytes().as_slice()))
    .bind(dropped)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Returns the chunks that the server reported once and that are not in its new report.
async fn dropped_chunks(
    write: &mut Write,
    file: FileId,
    server: &ServerId,
    report: &ReplicaReport,
) -> sqlx::Result<ChunkSet> {
    let row = sqlx::query("select runs, dropped from replicas where file_id = ? and server_id = ?")
        .bind(file.as_bytes().as_slice())
        .bind(server.as_str())
        .fetch_optional(&mut **write)
        .await?;
    let Some(row) = row else { return Ok(ChunkSet::new()) };
    let earlier: Option<&str> = row.try_get(1)?;
    let mut dropped: ChunkSet = serde_json::from_str(row.try_get(0)?).map_err(corrupt)?;
    let earlier: ChunkSet = earlier.map(serde_json::from_str).transpose().map_err(corrupt)?.unwrap_or_default();
    earlier.iter().for_each(|run| dropped.insert(run));
    report.runs.iter().for_each(|run| dropped.remove(run));
    Ok(dropped)
}
