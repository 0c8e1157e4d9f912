//! Grants and revocations, in whatever order they arrive: what was revoked stays so, as no token is granted twice.

use jiff::Timestamp;
use sqlx::{Row as _, Sqlite, Transaction};
use wire::{
    Digest,
    token::{Grant, Revocation},
};

use super::{Durability, Store, StoreError, to_sql};

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It allows this.
    Granted(Grant),
    /// It was taken back.
    Revoked,
}

impl Store {
    /// What is known of the token with this hash.
    pub(crate) async fn token(&self, hash: Digest) -> Result<Option<Standing>, StoreError> {
        let row = sqlx::query("select body from token where hash = ?")
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| match row.try_get::<Option<&str>, _>("body")? {
            None => Ok(Standing::Revoked),
            Some(body) => serde_json::from_str(body).map(Standing::Granted).map_err(|_| StoreError::Corrupt),
        })
        .transpose()
    }

    /// Notes a grant that was asked for. It has no place in a stream, so whatever a stream said about it stays.
    pub(crate) async fn add_answered_grant(&self, grant: &Grant) -> Result<(), StoreError> {
        let mut transaction = self.write(Durability::Ordered).await?;
        put_grant(&mut transaction, grant, 0).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets tokens that ended before `now`, and beyond `most` the grants that end first: they can be asked for again.
    pub(crate) async fn prune_tokens(&self, now: Timestamp, most: u32) -> Result<u64, StoreError> {
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
        .bind(most)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        Ok(expired + surplus)
    }
}

pub(super) async fn put_grant(
    transaction: &mut Transaction<'_, Sqlite>,
    grant: &Grant,
    seq: u64,
) -> Result<(), StoreError> {
    let body = serde_json::to_string(grant).map_err(|_| StoreError::Corrupt)?;
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

pub(super) async fn put_revocation(
    transaction: &mut Transaction<'_, Sqlite>,
    revocation: &Revocation,
    seq: u64,
) -> Result<(), StoreError> {
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
