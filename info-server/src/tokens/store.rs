//! The rows of tokens: their hashes alone.

use std::{collections::HashSet, net::IpAddr};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::{
    Digest, TokenId,
    event::{EventPayload, Stream},
    token::{Grant, GrantPurpose, Revocation},
};

use crate::{
    accounts::{
        audit::{AuditEntry, AuditKind},
        store::audit,
    },
    db::{
        Database, Write,
        columns::{corrupt, from_millis, hex},
    },
    events::outbox,
};

/// Revocations in one event.
const MAX_REVOCATIONS_PER_EVENT: usize = 256;

/// A token to be stored, and its account.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The grant that file servers receive.
    pub grant: Grant,
    /// Row id of its account.
    pub user_id: i64,
    /// The session that asks for it, if a user does: without that session there is no token.
    pub session: Option<Digest>,
    /// The address that it is asked for from.
    pub address: Option<IpAddr>,
}

impl NewToken {
    /// Returns the entry of the audit log.
    fn audit_entry(&self) -> AuditEntry {
        let Grant { token_id, file, zones, expires_at, purpose, .. } = &self.grant;
        let upload = matches!(purpose, GrantPurpose::Upload { .. });
        let detail = json!({ "token_id": token_id, "zones": zones, "expires_at": expires_at, "upload": upload });
        AuditEntry::new(AuditKind::Grant).by(self.user_id, self.address).about(file).with(detail)
    }
}

/// One row on its way into `json_each`.
#[derive(Serialize)]
struct Row<'a> {
    hash: String,
    id: String,
    file: String,
    user: i64,
    session: Option<String>,
    expires: i64,
    claims: &'a Grant,
}

/// Stores many tokens in one statement, which is what makes a group commit cheap, and their audit rows in another one.
/// Returns the hashes of those that were stored: a session may have ended since it was checked, and its end has revoked the tokens
/// that there were.
///
/// # Errors
/// The database's.
pub async fn add_tokens(write: &mut Write, tokens: &[NewToken]) -> sqlx::Result<HashSet<Digest>> {
    let rows: Vec<Row<'_>> = tokens
        .iter()
        .map(|NewToken { grant, user_id, session, .. }| Row {
            hash: grant.token_hash.to_string(),
            id: hex(grant.token_id.as_bytes()),
            file: hex(grant.file.as_bytes()),
            user: *user_id,
            session: session.map(|session| session.to_string()),
            expires: grant.expires_at.as_millisecond(),
            claims: grant,
        })
        .collect();
    let rows = serde_json::to_string(&rows).map_err(corrupt)?;
    let stored = sqlx::query_scalar::<_, Vec<u8>>(
        "insert into tokens (token_hash, token_id, file_id, user_id, expires_at, claims)
         select unhex(value ->> 'hash'), unhex(value ->> 'id'), unhex(value ->> 'file'), value ->> 'user',
                value ->> 'expires', value -> 'claims'
         from json_each(?)
         where value ->> 'session' is null
            or exists (select 1 from sessions where token_hash = unhex(value ->> 'session'))
         returning token_hash",
    )
    .bind(rows)
    .fetch_all(&mut **write)
    .await?;
    let stored: HashSet<Digest> =
        stored.iter().map(|hash| Digest::try_from(hash.as_slice()).map_err(corrupt)).collect::<sqlx::Result<_>>()?;
    let entries: Vec<AuditEntry> =
        tokens.iter().filter(|token| stored.contains(&token.grant.token_hash)).map(NewToken::audit_entry).collect();
    audit::record(write, &entries, Timestamp::now()).await?;
    Ok(stored)
}

/// A live token, its account and its revocation.
#[derive(Debug)]
pub struct OwnedToken {
    /// Row id of its account.
    pub user_id: i64,
    /// Set if it is revoked already.
    pub revoked: bool,
    /// The revocation that file servers receive.
    pub revocation: Revocation,
}

/// Marks a token as revoked.
///
/// # Errors
/// The database's.
pub async fn revoke(write: &mut Write, token_hash: Digest) -> sqlx::Result<()> {
    sqlx::query("update tokens set revoked = 1 where token_hash = ?")
        .bind(token_hash.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Revokes every live token of an account and announces that to every server; returns the newest event, if there were any.
///
/// # Errors
/// The database's.
pub async fn revoke_all_of(write: &mut Write, user_id: i64, now: Timestamp) -> sqlx::Result<Option<u64>> {
    let rows = sqlx::query(
        "update tokens set revoked = 1
         where user_id = ? and expires_at > ? and not revoked
         returning token_hash, token_id, expires_at",
    )
    .bind(user_id)
    .bind(now.as_millisecond())
    .fetch_all(&mut **write)
    .await?;
    let revoked = rows.iter().map(read_revocation).collect::<sqlx::Result<Vec<_>>>()?;
    let mut newest = None;
    for tokens in revoked.chunks(MAX_REVOCATIONS_PER_EVENT) {
        let fact = EventPayload::TokenRevoked { tokens: tokens.to_vec() };
        newest = Some(outbox::append(write, &Stream::All, &fact, now).await?);
    }
    Ok(newest)
}

fn read_revocation(row: &SqliteRow) -> sqlx::Result<Revocation> {
    Ok(Revocation {
        token_hash: Digest::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?,
        token_id: TokenId::try_from(row.try_get::<&[u8], _>(1)?).map_err(corrupt)?,
        expires_at: from_millis(row.try_get(2)?)?,
    })
}

/// Deletes tokens that ended before `now`.
///
/// # Errors
/// The database's.
pub async fn prune(write: &mut Write, now: Timestamp, most: u32) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from tokens where token_hash in (select token_hash from tokens where expires_at <= ? limit ?)",
    )
    .bind(now.as_millisecond())
    .bind(most)
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected())
}

impl Database {
    /// Returns the grant of a live token.
    ///
    /// # Errors
    /// The database's.
    pub async fn grant(&self, token_hash: Digest, now: Timestamp) -> sqlx::Result<Option<Grant>> {
        let claims: Option<String> =
            sqlx::query_scalar("select claims from tokens where token_hash = ? and expires_at > ? and not revoked")
                .bind(token_hash.as_bytes().as_slice())
                .bind(now.as_millisecond())
                .fetch_optional(self.readers())
                .await?;
        claims.map(|claims| serde_json::from_str(&claims).map_err(corrupt)).transpose()
    }

    /// Returns a token by its public name.
    ///
    /// # Errors
    /// The database's.
    pub async fn token(&self, token_id: TokenId, now: Timestamp) -> sqlx::Result<Option<OwnedToken>> {
        let row = sqlx::query(
            "select token_hash, user_id, expires_at, revoked from tokens where token_id = ? and expires_at > ?",
        )
        .bind(token_id.as_bytes().as_slice())
        .bind(now.as_millisecond())
        .fetch_optional(self.readers())
        .await?;
        row.map(|row| {
            Ok(OwnedToken {
                user_id: row.try_get(1)?,
                revoked: row.try_get::<i64, _>(3)? != 0,
                revocation: Revocation {
                    token_hash: Digest::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?,
                    token_id,
                    expires_at: from_millis(row.try_get(2)?)?,
                },
            })
        })
        .transpose()
    }

    /// Returns every revocation of a token that has not expired: the core of a snapshot.
    ///
    /// # Errors
    /// The database's.
    pub async fn live_revocations(&self, now: Timestamp) -> sqlx::Result<Vec<Revocation>> {
        let rows = sqlx::query("select token_hash, token_id, expires_at from tokens where revoked and expires_at > ?")
            .bind(now.as_millisecond())
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(read_revocation).collect()
    }
}
