//! The routes, called in process: one file for each folder of `src/http`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests: a panic is a failed test")]

#[path = "http/accounts.rs"]
mod accounts;
#[path = "http/files.rs"]
mod files;
#[path = "http/harness.rs"]
mod harness;
#[path = "http/jobs.rs"]
mod jobs;
#[path = "http/servers.rs"]
mod servers;
#[path = "http/system.rs"]
mod system;
#[path = "http/tokens.rs"]
mod tokens;
