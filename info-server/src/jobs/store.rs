//! The rows of jobs.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{Digest, JobId, RequesterId, ServerId};

use super::model::record::{
    ChunkRecord, ConflictRecord, JobChanges, JobRecord, LeaseRecord, RequesterKey, RequesterRecord, WorkerRecord,
};
use crate::db::{
    Database, Write,
    columns::{corrupt, to_i64, to_u64},
};

/// Stores what changed of a job.
///
/// # Errors
/// Those of the database.
pub(crate) async fn save(write: &mut Write, changes: &JobChanges) -> sqlx::Result<()> {
    if let Some(record) = &changes.record {
        sqlx::query(
            "insert into jobs (id, state, about) values (?, ?, ?)
             on conflict (id) do update set state = excluded.state, about = excluded.about",
        )
        .bind(changes.job.as_bytes().as_slice())
        .bind(record.state.as_str())
        .bind(serde_json::to_string(record).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    save_chunks(write, changes).await?;
    save_conflicts(write, changes).await?;
    save_leases(write, changes).await?;
    save_workers_and_requesters(write, changes).await
}

async fn save_chunks(write: &mut Write, changes: &JobChanges) -> sqlx::Result<()> {
    if !changes.chunks.is_empty() {
        let row = |chunk: &ChunkRecord| json!({ "n": chunk.n, "d": chunk.sha256, "f": chunk.first, "h": chunk.holder, "c": u8::from(chunk.confirmed) });
        let rows: Vec<_> = changes.chunks.iter().map(row).collect();
        // One statement for all chunks of a group commit: they come by the thousand.
        sqlx::query(
            "insert into job_chunks (job_id, n, sha256, first_id, holder_id, confirmed)
             select ?1, value ->> 'n', unhex(value ->> 'd'), value ->> 'f', value ->> 'h', value ->> 'c'
             from json_each(?2) where true
             on conflict (job_id, n) do update set sha256 = excluded.sha256, first_id = excluded.first_id,
                 holder_id = excluded.holder_id, confirmed = excluded.confirmed",
        )
        .bind(changes.job.as_bytes().as_slice())
        .bind(serde_json::to_string(&rows).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    if !changes.withdrawn_chunks.is_empty() {
        sqlx::query("delete from job_chunks where job_id = ? and n in (select value from json_each(?))")
            .bind(changes.job.as_bytes().as_slice())
            .bind(serde_json::to_string(&changes.withdrawn_chunks).map_err(corrupt)?)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

async fn save_conflicts(write: &mut Write, changes: &JobChanges) -> sqlx::Result<()> {
    for conflict in &changes.conflicts {
        sqlx::query(
            "insert into job_disputes (job_id, n, claims) values (?, ?, ?)
             on conflict (job_id, n) do update set claims = excluded.claims",
        )
        .bind(changes.job.as_bytes().as_slice())
        .bind(conflict.n)
        .bind(serde_json::to_string(&conflict.votes).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    if !changes.resolved_conflicts.is_empty() {
        sqlx::query("delete from job_disputes where job_id = ? and n in (select value from json_each(?))")
            .bind(changes.job.as_bytes().as_slice())
            .bind(serde_json::to_string(&changes.resolved_conflicts).map_err(corrupt)?)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

async fn save_leases(write: &mut Write, changes: &JobChanges) -> sqlx::Result<()> {
    for lease in &changes.leases {
        sqlx::query(
            "insert into job_leases (job_id, fence, server_id, about) values (?, ?, ?, ?)
             on conflict (job_id, fence) do update set about = excluded.about",
        )
        .bind(changes.job.as_bytes().as_slice())
        .bind(to_i64(lease.fence))
        .bind(lease.server.as_str())
        .bind(serde_json::to_string(&lease.terms).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    if !changes.ended_leases.is_empty() {
        sqlx::query("delete from job_leases where job_id = ? and fence in (select value from json_each(?))")
            .bind(changes.job.as_bytes().as_slice())
            .bind(serde_json::to_string(&changes.ended_leases).map_err(corrupt)?)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

async fn save_workers_and_requesters(write: &mut Write, changes: &JobChanges) -> sqlx::Result<()> {
    for worker in &changes.workers {
        sqlx::query(
            "insert into job_workers (job_id, server_id, excluded, failures, bytes) values (?, ?, ?, ?, ?)
             on conflict (job_id, server_id) do update set excluded = excluded.excluded, failures = excluded.failures,
                 bytes = excluded.bytes",
        )
        .bind(changes.job.as_bytes().as_slice())
        .bind(worker.server.as_str())
        .bind(i64::from(worker.excluded))
        .bind(worker.failures)
        .bind(to_i64(worker.bytes))
        .execute(&mut **write)
        .await?;
    }
    for requester in &changes.requesters {
        sqlx::query(
            "insert into job_askers (job_id, user_id, asker, present, has_left) values (?, ?, ?, ?, ?)
             on conflict (job_id, user_id, asker) do update set present = excluded.present, has_left = excluded.has_left",
        )
        .bind(changes.job.as_bytes().as_slice())
        .bind(requester.key.user)
        .bind(process_key(&requester.key))
        .bind(i64::from(requester.present))
        .bind(i64::from(requester.left))
        .execute(&mut **write)
        .await?;
    }
    for key in &changes.forgotten_requesters {
        sqlx::query("delete from job_askers where job_id = ? and user_id = ? and asker = ?")
            .bind(changes.job.as_bytes().as_slice())
            .bind(key.user)
            .bind(process_key(key))
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

/// Returns the key of a requester within its account: the id of its process, or nothing for the account itself.
fn process_key(key: &RequesterKey) -> &[u8] {
    key.process.as_ref().map_or(&[], |process| process.as_bytes().as_slice())
}

/// Deletes the rows of a job. Its file was removed before.
///
/// # Errors
/// Those of the database.
pub(crate) async fn forget(write: &mut Write, job: JobId) -> sqlx::Result<()> {
    sqlx::query("delete from jobs where id = ?").bind(job.as_bytes().as_slice()).execute(&mut **write).await?;
    Ok(())
}

impl Database {
    /// Returns every job as it is stored.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn jobs(&self) -> sqlx::Result<Vec<(JobRecord, JobChanges)>> {
        let mut read = self.readers().begin().await?;
        let mut jobs: BTreeMap<JobId, (JobRecord, JobChanges)> = BTreeMap::new();
        for about in sqlx::query_scalar::<_, String>("select about from jobs").fetch_all(&mut *read).await? {
            let record: JobRecord = serde_json::from_str(&about).map_err(corrupt)?;
            let changes = JobChanges::none(record.id);
            jobs.insert(record.id, (record, changes));
        }
        let chunks = "select job_id, n, sha256, first_id, holder_id, confirmed from job_chunks order by job_id, n";
        for row in sqlx::query(chunks).fetch_all(&mut *read).await? {
            if let Some((_, changes)) = jobs.get_mut(&job_of(&row)?) {
                changes.chunks.push(read_chunk(&row)?);
            }
        }
        let conflicts = "select job_id, n, claims from job_disputes order by job_id, n";
        for row in sqlx::query(conflicts).fetch_all(&mut *read).await? {
            if let Some((_, changes)) = jobs.get_mut(&job_of(&row)?) {
                let votes = serde_json::from_str(row.try_get(2)?).map_err(corrupt)?;
                changes.conflicts.push(ConflictRecord { n: row.try_get(1)?, votes });
            }
        }
        let leases = "select job_id, fence, server_id, about from job_leases";
        for row in sqlx::query(leases).fetch_all(&mut *read).await? {
            if let Some((_, changes)) = jobs.get_mut(&job_of(&row)?) {
                let (fence, server) = (to_u64(row.try_get(1)?)?, row.try_get::<&str, _>(2)?.parse().map_err(corrupt)?);
                let terms = serde_json::from_str(row.try_get(3)?).map_err(corrupt)?;
                changes.leases.push(LeaseRecord { fence, server, terms });
            }
        }
        let workers = "select job_id, server_id, excluded, failures, bytes from job_workers";
        for row in sqlx::query(workers).fetch_all(&mut *read).await? {
            if let Some((_, changes)) = jobs.get_mut(&job_of(&row)?) {
                changes.workers.push(WorkerRecord {
                    server: row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?,
                    excluded: row.try_get::<i64, _>(2)? != 0,
                    failures: row.try_get(3)?,
                    bytes: to_u64(row.try_get(4)?)?,
                });
            }
        }
        let requesters = "select job_id, user_id, asker, present, has_left from job_askers";
        for row in sqlx::query(requesters).fetch_all(&mut *read).await? {
            if let Some((_, changes)) = jobs.get_mut(&job_of(&row)?) {
                let process = match row.try_get::<&[u8], _>(2)? {
                    [] => None,
                    raw => Some(RequesterId::try_from(raw).map_err(corrupt)?),
                };
                let (present, left) = (row.try_get::<i64, _>(3)? != 0, row.try_get::<i64, _>(4)? != 0);
                let key = RequesterKey { user: row.try_get(1)?, process };
                changes.requesters.push(RequesterRecord { key, present, left });
            }
        }
        Ok(jobs.into_values().collect())
    }
}

fn job_of(row: &SqliteRow) -> sqlx::Result<JobId> {
    JobId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)
}

fn read_chunk(row: &SqliteRow) -> sqlx::Result<ChunkRecord> {
    let server = |column: usize| -> sqlx::Result<Option<ServerId>> {
        let text: Option<&str> = row.try_get(column)?;
        text.map(str::parse).transpose().map_err(corrupt)
    };
    Ok(ChunkRecord {
        n: row.try_get(1)?,
        sha256: Digest::try_from(row.try_get::<&[u8], _>(2)?).map_err(corrupt)?,
        first: server(3)?,
        holder: server(4)?,
        confirmed: row.try_get::<i64, _>(5)? != 0,
    })
}
