//! The HTTP interface: the table of routes, the extractors, and one file per endpoint.

mod accounts;
mod auth;
mod client_ip;
mod files;
mod forwarded;
pub(crate) mod idempotency;
mod jobs;
mod pagination;
pub(crate) mod routes;
mod servers;
mod system;
mod tokens;
