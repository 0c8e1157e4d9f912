//! Enrolled file servers. Leases live in memory ([`crate::registry`]); here is what must outlive a restart.

use jiff::Timestamp;
use sqlx::Row as _;
use url::Url;
use wire::{Digest, ServerId, Zone, id::InstanceId};

use super::{Store, Write, corrupt, from_millis, to_i64, to_u64};

/// A file server as it was when it last changed.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Its id.
    pub id: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// Its base address.
    pub url: Url,
    /// SHA-256 of its token.
    pub secret_sha256: Digest,
    /// The start of the process that last registered.
    pub instance: InstanceId,
    /// False once it said goodbye.
    pub present: bool,
    /// Whether it answered at its address.
    pub reachable: bool,
    /// Bytes it could still store.
    pub free_bytes: u64,
    /// When this row was written.
    pub last_seen: Timestamp,
    /// How much of a zone's files it should hold beside the others.
    pub weight: u32,
    /// Whether it is being emptied.
    pub draining: bool,
}

impl Store {
    /// All servers that ever enrolled.
    ///
    /// # Errors
    /// The database's.
    pub async fn enrolled(&self) -> sqlx::Result<Vec<Enrolled>> {
        let rows = sqlx::query(
            "select id, zone, url, secret_sha256, instance, present, reachable, free_bytes, last_seen, weight, draining
             from servers order by id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Enrolled {
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

/// Stores a server's registration; its secret never changes, and whether it is being emptied does not by registering.
///
/// # Errors
/// The database's.
pub async fn save(write: &mut Write, server: &Enrolled) -> sqlx::Result<()> {
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

/// Stores whether a server is being emptied.
///
/// # Errors
/// The database's.
pub async fn drain(write: &mut Write, id: &ServerId, draining: bool) -> sqlx::Result<()> {
    sqlx::query("update servers set draining = ? where id = ?")
        .bind(i64::from(draining))
        .bind(id.as_str())
        .execute(&mut **write)
        .await?;
    Ok(())
}
