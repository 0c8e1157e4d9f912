//! Accounts and sessions as values.

use std::net::IpAddr;

use jiff::Timestamp;
use wire::{Digest, Zone, account::Role};

/// The account of a signed-in user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Row id.
    pub id: i64,
    /// Its rights.
    pub role: Role,
}

/// An open session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its account.
    pub user: User,
    /// The zone that was named at the log-in.
    pub zone: Option<Zone>,
}

/// The row that a log-in is checked against.
#[derive(Debug)]
pub struct Credentials {
    /// Row id.
    pub user_id: i64,
    /// Argon2id in PHC form.
    pub password_hash: String,
    /// Set if the account is shut.
    pub disabled: bool,
}

/// Changes to an account; what is absent stays.
#[derive(Debug, Default)]
pub struct AccountChange {
    /// Shut or open again.
    pub disabled: Option<bool>,
    /// Another role.
    pub role: Option<Role>,
    /// Argon2id of another password, in PHC form.
    pub password_hash: Option<String>,
}

/// Outcome of an [`AccountChange`].
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The account is changed; what else must end is for the caller to end in the same transaction.
    Done {
        /// The account's row id.
        account: i64,
        /// Set if its sessions were ended: its tokens must not outlive them.
        sessions_ended: bool,
    },
    /// No account has this name.
    Unknown,
    /// Refusal for the last open admin account: without it the server could not be administered.
    LastAdmin,
}

/// A session to be opened.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// SHA-256 of its token.
    pub token_hash: Digest,
    /// Row id of its account.
    pub user_id: i64,
    /// End of the session.
    pub expires_at: Timestamp,
    /// Address that it is opened from.
    pub address: Option<IpAddr>,
    /// Zone of requests that name none.
    pub zone: Option<&'a Zone>,
}
