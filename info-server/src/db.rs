//! The catalogue's database. SQL is in this folder and in the `store` of each domain, and nowhere else.

pub mod backup;
pub mod columns;
mod connections;
mod epoch;
pub mod failures;
pub mod idempotency;
pub(crate) mod migrations;
mod present_fault;
mod transactions;

pub use connections::Database;
pub use transactions::Write;

/// The outcome of a statement.
pub type Result<T> = sqlx::Result<T>;
