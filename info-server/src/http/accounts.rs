//! Sessions, accounts and the audit log. `tests/http/accounts.rs` tests them in process.

pub(super) mod change_user;
pub(super) mod create_session;
pub(super) mod create_user;
pub(super) mod delete_session;
pub(super) mod list_audit;
pub(super) mod list_sessions;
pub(super) mod list_users;
mod new_password;
