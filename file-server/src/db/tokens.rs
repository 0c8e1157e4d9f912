//! Grants and revocations, in whatever order they arrive: a revoked token stays revoked, as no token is granted twice.

use jiff::Timestamp;
use sqlx::{Row as _, Sqlite, Transaction};
use wire::{
    Digest,
    token::{Grant, Revocation},
};

use super::{Database, DatabaseError, Durability, to_sql};

/// Status of a token on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenStatus {
    /// Issued token, with its grant.
    Granted(Grant),
    /// Revoked token.
    Revoked,
}

impl Database {
    /// Returns the status of the token with this hash; `None` when there is no record of it.
    pub(crate) async fn token(&self, hash: Digest) -> Result<Option<TokenStatus>, DatabaseError> {
        let row = sqlx::query("select body from token where hash = ?")
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| match row.try_get::<Option<&str>, _>("body")? {
            None => Ok(TokenStatus::Revoked),
            Some(body) => serde_json::from_str(body).map(TokenStatus::Granted).map_err(|_| DatabaseError::Corrupt),
        })
        .transpose()
    }

    /// Stores a grant from an introspection. It has no place in a stream, so what an event says about the token stays.
    pub(crate) async fn add_introspected_grant(&self, grant: &Grant) -> Result<(), DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        put_grant(&mut transaction, grant, 0).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes tokens that expired before `now`, and beyond `max` the grants that expire first: they can be requested again.
    pub(crate) async fn prune_tokens(&self, now: Timestamp, max: u32) -> Result<u64, DatabaseError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        let expired = sqlx::query("delete from token where expires_at < ?")
            .bind(now.as_millisecond())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        let surplus = sqlx::query(
            "delete from token where hash in (
                 select hash from token where body is not null order by expires_at
                 limit max(0, (select count(*) from token) - ?))",
        )
        .bind(max)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        Ok(expired + surplus)
    }
}

/// Stores a grant, unless a later event was stored about the token.
pub(super) async fn put_grant(
    transaction: &mut Transaction<'_, Sqlite>,
    grant: &Grant,
    seq: u64,
) -> Result<(), DatabaseError> {
    let body = serde_json::to_string(grant).map_err(|_| DatabaseError::Corrupt)?;
    sqlx::query(
        "insert into token (hash, seq, expires_at, body) values (?, ?, ?, ?)
         on conflict (hash) do update set seq = excluded.seq, expires_at = excluded.expires_at, body = excluded.body
         where excluded.seq > token.seq and token.body is not null",
    )
    .bind(grant.token_hash.as_bytes().as_slice())
    .bind(to_sql(seq))
    .bind(grant.expires_at.as_millisecond())
    .bind(body)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Stores a revocation; nothing undoes it.
pub(super) async fn put_revocation(
    transaction: &mut Transaction<'_, Sqlite>,
    revocation: &Revocation,
    seq: u64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "insert into token (hash, seq, expires_at, body) values (?, ?, ?, null)
         on conflict (hash) do update set seq = excluded.seq, body = null",
    )
    .bind(revocation.token_hash.as_bytes().as_slice())
    .bind(to_sql(seq))
    .bind(revocation.expires_at.as_millisecond())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
