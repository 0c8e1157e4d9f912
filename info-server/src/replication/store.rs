//! The rows that the planner works on: the targets of files, and whether their replicas have converged (`files.settled`).

pub mod assignments;
pub mod counts;
pub mod replicas;

use std::collections::BTreeMap;

use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{FileId, ServerId, Zone};

use crate::{
    db::{
        Database, Write,
        columns::{corrupt, hex},
    },
    replication::plan::ReplicaTarget,
};

impl Database {
    /// Returns the further zones that a file was requested in.
    ///
    /// # Errors
    /// The database's.
    pub async fn preheats(&self, id: FileId) -> sqlx::Result<Vec<ReplicaTarget>> {
        let rows = sqlx::query("select zone, replicas from preheats where file_id = ? order by zone")
            .bind(id.as_bytes().as_slice())
            .fetch_all(self.readers())
            .await?;
        let read = |row: &SqliteRow| {
            let zone = row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?;
            Ok(ReplicaTarget { zone: Some(zone), replicas: row.try_get(1)? })
        };
        rows.iter().map(read).collect()
    }

    /// Returns published files whose replicas are not known to have converged.
    ///
    /// # Errors
    /// The database's.
    pub async fn unconverged(&self, after: Option<FileId>, most: u32) -> sqlx::Result<Vec<FileId>> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "select id from files where state = 'available' and settled = 0 and id > ? order by id limit ?",
        )
        .bind(after.map_or_else(Vec::new, |id| id.as_bytes().to_vec()))
        .bind(most)
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|raw| FileId::try_from(raw.as_slice()).map_err(corrupt)).collect()
    }

    /// Returns the servers that reported a complete replica, for each of some files.
    ///
    /// # Errors
    /// The database's.
    pub async fn complete_holders(&self, files: &[FileId]) -> sqlx::Result<BTreeMap<FileId, Vec<ServerId>>> {
        let asked: Vec<String> = files.iter().map(|file| hex(file.as_bytes())).collect();
        let rows = sqlx::query(
            "select file_id, server_id from json_each(?) join files on files.id = unhex(value)
             join replicas on file_id = files.id and replicas.root = files.root",
        )
        .bind(serde_json::to_string(&asked).map_err(corrupt)?)
        .fetch_all(self.readers())
        .await?;
        let mut holders: BTreeMap<FileId, Vec<ServerId>> = BTreeMap::new();
        for row in rows {
            let file = FileId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?;
            holders.entry(file).or_default().push(row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?);
        }
        Ok(holders)
    }
}

/// Stores whether the replicas of a published file have converged; returns false when the file is no longer there.
///
/// # Errors
/// The database's.
pub async fn set_converged(write: &mut Write, id: FileId, converged: bool) -> sqlx::Result<bool> {
    let done = sqlx::query("update files set settled = ? where id = ? and state = 'available'")
        .bind(i64::from(converged))
        .bind(id.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks those of `most` files after `after` as unconverged that some server has not completed; returns the file to go on after, if
/// there are more.
///
/// # Errors
/// The database's.
pub async fn mark_incomplete(write: &mut Write, after: Option<FileId>, most: u32) -> sqlx::Result<Option<FileId>> {
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

/// Replicas asked for in one more zone.
#[derive(Debug, Clone, Copy)]
pub struct Preheat {
    /// Their number.
    pub replicas: u32,
    /// Set if the number replaces a higher one.
    pub lowers: bool,
}

/// Adds a zone to the targets of a published file, or changes the replicas there; returns false when the file is no longer there.
///
/// # Errors
/// The database's.
pub async fn preheat(write: &mut Write, id: FileId, zone: &Zone, asked: Preheat) -> sqlx::Result<bool> {
    if !set_converged(write, id, false).await? {
        return Ok(false);
    }
    sqlx::query(
        "insert into preheats (file_id, zone, replicas) values (?, ?, ?)
         on conflict (file_id, zone) do update set replicas = iif(?4, excluded.replicas, max(replicas, excluded.replicas))",
    )
    .bind(id.as_bytes().as_slice())
    .bind(zone.as_str())
    .bind(asked.replicas)
    .bind(asked.lowers)
    .execute(&mut **write)
    .await?;
    Ok(true)
}

/// Replaces the further zones of a published file; returns false when the file is no longer there.
///
/// # Errors
/// The database's.
pub async fn replace_preheats(write: &mut Write, id: FileId, preheats: &[ReplicaTarget]) -> sqlx::Result<bool> {
    if !set_converged(write, id, false).await? {
        return Ok(false);
    }
    sqlx::query("delete from preheats where file_id = ?").bind(id.as_bytes().as_slice()).execute(&mut **write).await?;
    for target in preheats {
        let Some(zone) = &target.zone else { continue };
        sqlx::query("insert or replace into preheats (file_id, zone, replicas) values (?, ?, ?)")
            .bind(id.as_bytes().as_slice())
            .bind(zone.as_str())
            .bind(target.replicas)
            .execute(&mut **write)
            .await?;
    }
    Ok(true)
}
