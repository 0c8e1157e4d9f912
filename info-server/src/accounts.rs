//! Accounts: passwords, sessions, the bounds of failed log-ins, and the audit log.

pub mod account;
pub mod audit;
pub mod email;
pub(crate) mod login_failures;
pub(crate) mod login_limiter;
pub mod passwords;
pub mod store;
