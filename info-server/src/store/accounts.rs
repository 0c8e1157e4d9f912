//! Accounts and their sessions.

use jiff::Timestamp;
use sqlx::Row as _;
use wire::Digest;

use super::{Store, Write, tokens};

/// What an account may do; each role may do what those below it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Lists and downloads.
    Reader,
    /// Publishes, and removes what it published.
    Publisher,
    /// Everything.
    Admin,
}

impl Role {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// Anything that is not known may only read.
    fn from_column(text: &str) -> Self {
        match text {
            "admin" => Self::Admin,
            "publisher" => Self::Publisher,
            _ => Self::Reader,
        }
    }
}

/// Somebody who is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Row id.
    pub id: i64,
    /// What they may do.
    pub role: Role,
}

/// An account as `user list` shows it.
#[derive(Debug)]
pub struct Account {
    /// Its name.
    pub email: String,
    /// What it may do.
    pub role: Role,
    /// Whether it is shut.
    pub disabled: bool,
}

/// What a log-in is checked against.
#[derive(Debug)]
pub struct Credentials {
    /// Row id.
    pub user_id: i64,
    /// Argon2id in PHC form.
    pub password_hash: String,
    /// Whether the account is shut.
    pub disabled: bool,
}

impl Store {
    /// Looks an account up by its name, in any case.
    ///
    /// # Errors
    /// The database's.
    pub async fn credentials(&self, email: &str) -> sqlx::Result<Option<Credentials>> {
        let row = sqlx::query("select id, password_hash, disabled from users where email = ?")
            .bind(email)
            .fetch_optional(&self.readers)
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

    /// Who holds this session token, if it is live and the account is open.
    ///
    /// # Errors
    /// The database's.
    pub async fn session_user(&self, token_hash: Digest, now: Timestamp) -> sqlx::Result<Option<User>> {
        let row = sqlx::query(
            "select users.id, users.role from sessions join users on users.id = sessions.user_id
             where token_hash = ? and expires_at > ? and not disabled",
        )
        .bind(token_hash.as_bytes().as_slice())
        .bind(now.as_millisecond())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| Ok(User { id: row.try_get(0)?, role: Role::from_column(row.try_get(1)?) })).transpose()
    }

    /// All accounts, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn accounts(&self) -> sqlx::Result<Vec<Account>> {
        let rows =
            sqlx::query("select email, role, disabled from users order by email").fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                Ok(Account {
                    email: row.try_get(0)?,
                    role: Role::from_column(row.try_get(1)?),
                    disabled: row.try_get::<i64, _>(2)? != 0,
                })
            })
            .collect()
    }
}

/// Makes an account; false when the name is taken.
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

/// Changes a password and ends the account's sessions; false when there is no such account.
///
/// # Errors
/// The database's.
pub async fn set_password(write: &mut Write, email: &str, password_hash: &str) -> sqlx::Result<bool> {
    end_sessions(write, email).await?;
    let done = sqlx::query("update users set password_hash = ? where email = ?")
        .bind(password_hash)
        .bind(email)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Shuts or reopens an account and ends its sessions; shutting it revokes its tokens, too. False when there is no such
/// account.
///
/// # Errors
/// The database's.
pub async fn set_disabled(write: &mut Write, email: &str, disabled: bool, now: Timestamp) -> sqlx::Result<bool> {
    end_sessions(write, email).await?;
    if disabled {
        tokens::revoke_all_of(write, email, now).await?;
    }
    let done = sqlx::query("update users set disabled = ? where email = ?")
        .bind(i64::from(disabled))
        .bind(email)
        .execute(&mut **write)
        .await?;
    Ok(done.rows_affected() == 1)
}

async fn end_sessions(write: &mut Write, email: &str) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where user_id = (select id from users where email = ?)")
        .bind(email)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Begins a session, and forgets those that have ended.
///
/// # Errors
/// The database's.
pub async fn add_session(
    write: &mut Write,
    token_hash: Digest,
    user_id: i64,
    now: Timestamp,
    expires_at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where expires_at <= ?").bind(now.as_millisecond()).execute(&mut **write).await?;
    sqlx::query("insert into sessions (token_hash, user_id, created_at, expires_at) values (?, ?, ?, ?)")
        .bind(token_hash.as_bytes().as_slice())
        .bind(user_id)
        .bind(now.as_millisecond())
        .bind(expires_at.as_millisecond())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Ends one session.
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
