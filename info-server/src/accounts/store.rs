//! Accounts and their sessions.

pub mod audit;

use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::Row as _;
use wire::{
    Digest, SessionId, Zone,
    account::{Account, Role},
    catalogue::SessionInfo,
};

use crate::{
    accounts::account::{AccountChange, ChangeOutcome, Credentials, NewSession, Session, User},
    db::{
        Database, Write,
        columns::{corrupt, from_millis},
    },
};

/// Open sessions of one account; the oldest make room for new ones.
const MAX_SESSIONS: u32 = 64;

impl Database {
    /// Returns the credentials of an account; its name may be in any case.
    ///
    /// # Errors
    /// The database's.
    pub async fn credentials(&self, email: &str) -> sqlx::Result<Option<Credentials>> {
        let row = sqlx::query("select id, password_hash, disabled from users where email = ?")
            .bind(email)
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| {
            Ok(Credentials {
                user_id: row.try_get(0)?,
                password_hash: row.try_get(1)?,
                disabled: row.try_get::<i64, _>(2)? != 0,
            })
        })
        .transpose()
    }

    /// Returns the session of a token, if it is live and the account is open.
    ///
    /// # Errors
    /// The database's.
    pub async fn session_user(&self, token_hash: Digest, now: Timestamp) -> sqlx::Result<Option<Session>> {
        let row = sqlx::query(
            "select users.id, users.role, sessions.zone from sessions join users on users.id = sessions.user_id
             where token_hash = ? and expires_at > ? and not disabled",
        )
        .bind(token_hash.as_bytes().as_slice())
        .bind(now.as_millisecond())
        .fetch_optional(self.readers())
        .await?;
        row.map(|row| {
            let zone = row.try_get::<Option<&str>, _>(2)?.map(|zone| zone.parse().map_err(corrupt)).transpose()?;
            Ok(Session { user: User { id: row.try_get(0)?, role: role_column(row.try_get(1)?) }, zone })
        })
        .transpose()
    }

    /// Returns the open sessions of an account, newest first; `current` is the one that asks.
    ///
    /// # Errors
    /// The database's.
    pub async fn sessions(&self, user: i64, current: Digest, now: Timestamp) -> sqlx::Result<Vec<SessionInfo>> {
        let rows = sqlx::query(
            "select id, created_at, expires_at, address, token_hash from sessions
             where user_id = ? and expires_at > ? order by created_at desc, id desc",
        )
        .bind(user)
        .bind(now.as_millisecond())
        .fetch_all(self.readers())
        .await?;
        rows.iter()
            .map(|row| {
                let address: Option<&str> = row.try_get(3)?;
                Ok(SessionInfo {
                    id: SessionId::try_from(row.try_get::<&[u8], _>(0)?).map_err(corrupt)?,
                    created_at: from_millis(row.try_get(1)?)?,
                    expires_at: from_millis(row.try_get(2)?)?,
                    address: address.map(|address| address.parse().map_err(corrupt)).transpose()?,
                    current: row.try_get::<&[u8], _>(4)? == current.as_bytes(),
                })
            })
            .collect()
    }

    /// Returns up to `most` accounts and the addresses from which they have a session, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn familiar_addresses(&self, now: Timestamp, most: u64) -> sqlx::Result<Vec<(String, IpAddr)>> {
        let rows = sqlx::query(
            "select email, address from sessions join users on users.id = sessions.user_id
             where expires_at > ? and address is not null order by sessions.created_at desc limit ?",
        )
        .bind(now.as_millisecond())
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<&str, _>(1)?.parse().map_err(corrupt)?))).collect()
    }

    /// Returns the name of the account with this row id.
    ///
    /// # Errors
    /// The database's.
    pub async fn email(&self, id: i64) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar("select email from users where id = ?").bind(id).fetch_optional(self.readers()).await
    }

    /// Returns at most `limit` accounts with row ids above `after`, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn accounts(&self, after: i64, limit: u32) -> sqlx::Result<Vec<Account>> {
        let rows =
            sqlx::query("select id, email, role, disabled, created_at from users where id > ? order by id limit ?")
                .bind(after)
                .bind(limit)
                .fetch_all(self.readers())
                .await?;
        rows.iter()
            .map(|row| {
                Ok(Account {
                    id: row.try_get(0)?,
                    email: row.try_get(1)?,
                    role: role_column(row.try_get(2)?),
                    disabled: row.try_get::<i64, _>(3)? != 0,
                    created_at: from_millis(row.try_get(4)?)?,
                })
            })
            .collect()
    }
}

/// Reads a role; an unknown word may only read.
fn role_column(word: &str) -> Role {
    word.parse().unwrap_or(Role::Reader)
}

/// Makes an account; returns false when the name is taken.
///
/// # Errors
/// The database's.
pub async fn add_user(
    write: &mut Write,
    email: &str,
    password_hash: &str,
    role: Role,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into users (email, password_hash, role, created_at) values (?, ?, ?, ?) on conflict do nothing",
    )
    .bind(email)
    .bind(password_hash)
    .bind(role.as_str())
    .bind(now.as_millisecond())
    .execute(&mut **write)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes an account, and ends its sessions if it lost a right or if others may have known its password.
///
/// Tokens are not this domain's: `tokens::revocation::change_account` ends them in the same transaction.
///
/// # Errors
/// The database's.
pub(crate) async fn change(write: &mut Write, email: &str, change: &AccountChange) -> sqlx::Result<ChangeOutcome> {
    let row = sqlx::query("select id, role, disabled from users where email = ?").bind(email);
    let Some(row) = row.fetch_optional(&mut **write).await? else { return Ok(ChangeOutcome::Unknown) };
    let (id, role) = (row.try_get::<i64, _>(0)?, role_column(row.try_get(1)?));
    let disabled = row.try_get::<i64, _>(2)? != 0;
    let (new_role, new_disabled) = (change.role.unwrap_or(role), change.disabled.unwrap_or(disabled));
    let loses_admin = role == Role::Admin && !disabled && (new_disabled || new_role < Role::Admin);
    if loses_admin && !has_other_admin(write, id).await? {
        return Ok(ChangeOutcome::LastAdmin);
    }
    sqlx::query("update users set role = ?, disabled = ?, password_hash = coalesce(?, password_hash) where id = ?")
        .bind(new_role.as_str())
        .bind(i64::from(new_disabled))
        .bind(change.password_hash.as_deref())
        .bind(id)
        .execute(&mut **write)
        .await?;
    let ends = new_disabled || new_role < role || change.password_hash.is_some();
    if ends {
        sqlx::query("delete from sessions where user_id = ?").bind(id).execute(&mut **write).await?;
    }
    Ok(ChangeOutcome::Done { account: id, sessions_ended: ends })
}

async fn has_other_admin(write: &mut Write, id: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select 1 from users where role = 'admin' and not disabled and id <> ?)")
        .bind(id)
        .fetch_one(&mut **write)
        .await
}

/// Begins a session, and deletes those that have ended and the oldest beyond `MAX_SESSIONS`.
///
/// # Errors
/// The database's.
pub async fn add_session(write: &mut Write, new: &NewSession<'_>, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where expires_at <= ?").bind(now.as_millisecond()).execute(&mut **write).await?;
    sqlx::query(
        "insert into sessions (token_hash, user_id, created_at, expires_at, id, address, zone)
         values (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(new.token_hash.as_bytes().as_slice())
    .bind(new.user_id)
    .bind(now.as_millisecond())
    .bind(new.expires_at.as_millisecond())
    .bind(SessionId::new().as_bytes().as_slice())
    .bind(new.address.map(|address| address.to_string()))
    .bind(new.zone.map(Zone::as_str))
    .execute(&mut **write)
    .await?;
    // Ids ascend with time, also within a millisecond.
    sqlx::query(
        "delete from sessions where token_hash in
         (select token_hash from sessions where user_id = ? order by created_at desc, id desc limit -1 offset ?)",
    )
    .bind(new.user_id)
    .bind(MAX_SESSIONS)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Ends the session with this token.
///
/// # Errors
/// The database's.
pub async fn end_session(write: &mut Write, token_hash: Digest) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where token_hash = ?")
        .bind(token_hash.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Ends the session with this id, of `owner` or, without one, of any account; returns false when there is none.
///
/// # Errors
/// The database's.
pub async fn end_named_session(write: &mut Write, id: SessionId, owner: Option<i64>) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from sessions where id = ?1 and (?2 is null or user_id = ?2)")
        .bind(id.as_bytes().as_slice())
        .bind(owner)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends all sessions of an account but the one with this token; returns their number.
///
/// # Errors
/// The database's.
pub async fn end_other_sessions(write: &mut Write, user_id: i64, kept: Digest) -> sqlx::Result<u64> {
    let done = sqlx::query("delete from sessions where user_id = ? and token_hash <> ?")
        .bind(user_id)
        .bind(kept.as_bytes().as_slice())
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests;
