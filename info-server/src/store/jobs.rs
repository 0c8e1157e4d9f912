//! Collaborative downloads.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{AskerId, Digest, JobId, ServerId};

use super::{Store, Write, corrupt, hex, to_i64, to_u64};
use crate::jobs::{
    askers::Who,
    row::{AskerRow, ChunkRow, DisputeRow, LeaseRow, Row, Saved, WorkerRow},
};

/// Writes down what changed of a job.
///
/// # Errors
/// The database's.
pub(crate) async fn save(write: &mut Write, saved: &Saved) -> sqlx::Result<()> {
    if let Some(row) = &saved.row {
        sqlx::query(
            "insert into jobs (id, state, about) values (?, ?, ?)
             on conflict (id) do update set state = excluded.state, about = excluded.about",
        )
        .bind(saved.job.as_bytes().as_slice())
        .bind(row.state.as_str())
        .bind(serde_json::to_string(row).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    save_chunks(write, saved).await?;
    save_disputes(write, saved).await?;
    save_leases(write, saved).await?;
    save_people(write, saved).await
}

async fn save_chunks(write: &mut Write, saved: &Saved) -> sqlx::Result<()> {
    if !saved.chunks.is_empty() {
        let row = |chunk: &ChunkRow| json!({ "n": chunk.n, "d": chunk.sha256, "f": chunk.first, "h": chunk.holder, "c": u8::from(chunk.confirmed) });
        let rows: Vec<_> = saved.chunks.iter().map(row).collect();
        // One statement for all chunks of a group commit: they come by the thousand.
        sqlx::query(
            "insert into job_chunks (job_id, n, sha256, first_id, holder_id, confirmed)
             select ?1, value ->> 'n', unhex(value ->> 'd'), value ->> 'f', value ->> 'h', value ->> 'c'
             from json_each(?2) where true
             on conflict (job_id, n) do update set sha256 = excluded.sha256, first_id = excluded.first_id,
                 holder_id = excluded.holder_id, confirmed = excluded.confirmed",
        )
        .bind(saved.job.as_bytes().as_slice())
        .bind(serde_json::to_string(&rows).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    if !saved.withdrawn.is_empty() {
        sqlx::query("delete from job_chunks where job_id = ? and n in (select value from json_each(?))")
            .bind(saved.job.as_bytes().as_slice())
            .bind(serde_json::to_string(&saved.withdrawn).map_err(corrupt)?)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

async fn save_disputes(write: &mut Write, saved: &Saved) -> sqlx::Result<()> {
    for dispute in &saved.disputes {
        sqlx::query(
            "insert into job_disputes (job_id, n, claims) values (?, ?, ?)
             on conflict (job_id, n) do update set claims = excluded.claims",
        )
        .bind(saved.job.as_bytes().as_slice())
        .bind(dispute.n)
        .bind(serde_json::to_string(&dispute.claims).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    if !saved.settled.is_empty() {
        sqlx::query("delete from job_disputes where job_id = ? and n in (select value from json_each(?))")
            .bind(saved.job.as_bytes().as_slice())
            .bind(serde_json::to_string(&saved.settled).map_err(corrupt)?)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

async fn save_leases(write: &mut Write, saved: &Saved) -> sqlx::Result<()> {
    for lease in &saved.leases {
        sqlx::query(
            "insert into job_leases (job_id, fence, server_id, about) values (?, ?, ?, ?)
             on conflict (job_id, fence) do update set about = excluded.about",
        )
        .bind(saved.job.as_bytes().as_slice())
        .bind(to_i64(lease.fence))
        .bind(lease.server.as_str())
        .bind(serde_json::to_string(&lease.about).map_err(corrupt)?)
        .execute(&mut **write)
        .await?;
    }
    if !saved.ended.is_empty() {
        sqlx::query("delete from job_leases where job_id = ? and fence in (select value from json_each(?))")
            .bind(saved.job.as_bytes().as_slice())
            .bind(serde_json::to_string(&saved.ended).map_err(corrupt)?)
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

async fn save_people(write: &mut Write, saved: &Saved) -> sqlx::Result<()> {
    for worker in &saved.workers {
        sqlx::query(
            "insert into job_workers (job_id, server_id, excluded, failures, bytes) values (?, ?, ?, ?, ?)
             on conflict (job_id, server_id) do update set excluded = excluded.excluded, failures = excluded.failures,
                 bytes = excluded.bytes",
        )
        .bind(saved.job.as_bytes().as_slice())
        .bind(worker.server.as_str())
        .bind(i64::from(worker.excluded))
        .bind(worker.failures)
        .bind(to_i64(worker.bytes))
        .execute(&mut **write)
        .await?;
    }
    for asker in &saved.askers {
        sqlx::query(
            "insert into job_askers (job_id, user_id, asker, present, has_left) values (?, ?, ?, ?, ?)
             on conflict (job_id, user_id, asker) do update set present = excluded.present, has_left = excluded.has_left",
        )
        .bind(saved.job.as_bytes().as_slice())
        .bind(asker.who.user)
        .bind(key(&asker.who))
        .bind(i64::from(asker.present))
        .bind(i64::from(asker.left))
        .execute(&mut **write)
        .await?;
    }
    for who in &saved.forgotten {
        sqlx::query("delete from job_askers where job_id = ? and user_id = ? and asker = ?")
            .bind(saved.job.as_bytes().as_slice())
            .bind(who.user)
            .bind(key(who))
            .execute(&mut **write)
            .await?;
    }
    Ok(())
}

/// How an asker is told from its account's others: its id, or nothing for the account itself.
fn key(who: &Who) -> &[u8] {
    who.asker.as_ref().map_or(&[], |asker| asker.as_bytes().as_slice())
}

/// Forgets a job. Its file was removed before.
///
/// # Errors
/// The database's.
pub(crate) async fn forget(write: &mut Write, job: JobId) -> sqlx::Result<()> {
    sqlx::query("delete from jobs where id = ?").bind(job.as_bytes().as_slice()).execute(&mut **write).await?;
    Ok(())
}

impl Store {
    /// Every job as it stands.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn jobs(&self) -> sqlx::Result<Vec<(Row, Saved)>> {
        let mut read = self.readers.begin().await?;
        let mut jobs: BTreeMap<JobId, (Row, Saved)> = BTreeMap::new();
        for about in sqlx::query_scalar::<_, String>("select about from jobs").fetch_all(&mut *read).await? {
            let row: Row = serde_json::from_str(&about).map_err(corrupt)?;
            jobs.insert(row.id, (row.clone(), Saved::nothing(row.id)));
        }
        let chunks = "select job_id, n, sha256, first_id, holder_id, confirmed from job_chunks order by job_id, n";
        for row in sqlx::query(chunks).fetch_all(&mut *read).await? {
            if let Some((_, saved)) = jobs.get_mut(&job_of(&row)?) {
                saved.chunks.push(read_chunk(&row)?);
            }
        }
        let disputes = "select job_id, n, claims from job_disputes order by job_id, n";
        for row in sqlx::query(disputes).fetch_all(&mut *read).await? {
            if let Some((_, saved)) = jobs.get_mut(&job_of(&row)?) {
                let claims = serde_json::from_str(row.try_get(2)?).map_err(corrupt)?;
                saved.disputes.push(DisputeRow { n: row.try_get(1)?, claims });
            }
        }
        let leases = "select job_id, fence, server_id, about from job_leases";
        for row in sqlx::query(leases).fetch_all(&mut *read).await? {
            if let Some((_, saved)) = jobs.get_mut(&job_of(&row)?) {
                let (fence, server) = (to_u64(row.try_get(1)?)?, row.try_get::<&str, _>(2)?.parse().map_err(corrupt)?);
                let about = serde_json::from_str(row.try_get(3)?).map_err(corrupt)?;
                saved.leases.push(LeaseRow { fence, server, about });
            }
        }
        let workers = "select job_id, server_id, excluded, failures, bytes from job_workers";
        for row in sqlx::query(workers).fetch_all(&mut *read).await? {
            if let Some((_, saved)) = jobs.get_mut(&job_of(&row)?) {
                saved.workers.push(WorkerRow {
                    server: row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?,
                    excluded: row.try_get::<i64, _>(2)? != 0,
                    failures: row.try_get(3)?,
                    bytes: to_u64(row.try_get(4)?)?,
                });
            }
        }
        let askers = "select job_id, user_id, asker, present, has_left from job_askers";
        for row in sqlx::query(askers).fetch_all(&mut *read).await? {
            if let Some((_, saved)) = jobs.get_mut(&job_of(&row)?) {
                let asker = match row.try_get::<&[u8], _>(2)? {
                    [] => None,
                    raw => Some(AskerId::try_from(raw).map_err(corrupt)?),
                };
                let (present, left) = (row.try_get::<i64, _>(3)? != 0, row.try_get::<i64, _>(4)? != 0);
                saved.askers.push(AskerRow { who: Who { user: row.try_get(1)?, asker }, present, left });
            }
        }
        Ok(jobs.into_values().collect())
    }

    /// Whether an account asked for a job and did not take that back.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn asked_for(&self, job: JobId, user: i64) -> sqlx::Result<bool> {
        let asked: i64 = sqlx::query_scalar(
            "select exists (select 1 from job_askers where job_id = unhex(?) and user_id = ? and not has_left)",
        )
        .bind(hex(job.as_bytes()))
        .bind(user)
        .fetch_one(&self.readers)
        .await?;
        Ok(asked != 0)
    }
}

fn job_of(row: &SqliteRow) -> sqlx::Result<JobId> {
    JobId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)
}

fn read_chunk(row: &SqliteRow) -> sqlx::Result<ChunkRow> {
    let server = |column: usize| -> sqlx::Result<Option<ServerId>> {
        let text: Option<&str> = row.try_get(column)?;
        text.map(str::parse).transpose().map_err(corrupt)
    };
    Ok(ChunkRow {
        n: row.try_get(1)?,
        sha256: Digest::try_from(row.try_get::<&[u8], _>(2)?).map_err(corrupt)?,
        first: server(3)?,
        holder: server(4)?,
        confirmed: row.try_get::<i64, _>(5)? != 0,
    })
}
