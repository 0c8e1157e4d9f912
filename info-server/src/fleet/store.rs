//! The rows of file servers. Leases live in memory (`fleet::registry`); the rows hold what must outlive a restart.

use sqlx::Row as _;
use wire::{Digest, ServerId, id::InstanceId};

use crate::{
    db::{
        Database, Write,
        columns::{corrupt, from_millis, to_i64, to_u64},
    },
    fleet::server::EnrolledServer,
};

impl Database {
    /// Returns all servers that ever enrolled.
    ///
    /// # Errors
    /// The database's.
    pub async fn enrolled(&self) -> sqlx::Result<Vec<EnrolledServer>> {
        let rows = sqlx::query(
            "select id, zone, url, secret_sha256, instance, present, reachable, free_bytes, last_seen, weight, draining
             from servers order by id",
        )
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(EnrolledServer {
                    id: row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?,
                    zone: row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?,
                    url: row.try_get::<&str, _>(2)?.parse().map_err(corrupt)?,
                    secret_sha256: Digest::try_from(row.try_get::<&[u8], _>(3)?).map_err(corrupt)?,
                    instance: InstanceId::try_from(row.try_get::<&[u8], _>(4)?).map_err(corrupt)?,
                    present: row.try_get::<i64, _>(5)? != 0,
                    reachable: row.try_get::<i64, _>(6)? != 0,
                    free_bytes: to_u64(row.try_get(7)?)?,
                    last_seen: from_millis(row.try_get(8)?)?,
                    weight: row.try_get(9)?,
                    draining: row.try_get::<i64, _>(10)? != 0,
                })
            })
            .collect()
    }
}

/// Stores a server's registration. It changes neither the server's secret nor whether it is draining.
///
/// # Errors
/// The database's.
pub async fn save(write: &mut Write, server: &EnrolledServer) -> sqlx::Result<()> {
    sqlx::query(
        "insert into servers (id, zone, url, secret_sha256, instance, present, reachable, free_bytes, last_seen,
             weight, draining)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (id) do update set zone = excluded.zone, url = excluded.url, instance = excluded.instance,
             present = excluded.present, reachable = excluded.reachable, free_bytes = excluded.free_bytes,
             last_seen = excluded.last_seen, weight = excluded.weight",
    )
    .bind(server.id.as_str())
    .bind(server.zone.as_str())
    .bind(server.url.as_str())
    .bind(server.secret_sha256.as_bytes().as_slice())
    .bind(server.instance.as_bytes().as_slice())
    .bind(i64::from(server.present))
    .bind(i64::from(server.reachable))
    .bind(to_i64(server.free_bytes))
    .bind(server.last_seen.as_millisecond())
    .bind(server.weight)
    .bind(i64::from(server.draining))
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Stores whether a server is draining.
///
/// # Errors
/// The database's.
pub async fn set_draining(write: &mut Write, id: &ServerId, draining: bool) -> sqlx::Result<()> {
    sqlx::query("update servers set draining = ? where id = ?")
        .bind(i64::from(draining))
        .bind(id.as_str())
        .execute(&mut **write)
        .await?;
    Ok(())
}
