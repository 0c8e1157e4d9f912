//! Tokens that end before their time, with the accounts that asked for them.

use jiff::Timestamp;

use crate::{
    accounts::{
        account::{AccountChange, ChangeOutcome},
        store,
    },
    db::{self, Write},
    tokens::store::revoke_all_of,
};

/// Outcome of [`change_account`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountChanged {
    /// The account is changed.
    Done {
        /// The newest event, if tokens were revoked.
        newest: Option<u64>,
    },
    /// No account has this name.
    Unknown,
    /// Refusal for the last open admin account: without it the server could not be administered.
    LastAdmin,
}

/// Changes an account. If it lost a right, or if others may have known its password, it loses all sessions and all tokens, also those of
/// downloads that run.
///
/// # Errors
/// The database's.
pub async fn change_account(
    write: &mut Write,
    email: &str,
    change: &AccountChange,
    now: Timestamp,
) -> db::Result<AccountChanged> {
    let newest = match store::change(write, email, change).await? {
        ChangeOutcome::Unknown => return Ok(AccountChanged::Unknown),
        ChangeOutcome::LastAdmin => return Ok(AccountChanged::LastAdmin),
        ChangeOutcome::Done { account, sessions_ended: true } => revoke_all_of(write, account, now).await?,
        ChangeOutcome::Done { sessions_ended: false, .. } => None,
    };
    Ok(AccountChanged::Done { newest })
}
