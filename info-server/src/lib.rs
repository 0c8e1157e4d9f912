#![doc = include_str!("../README.md")]

pub mod app;
pub mod backup;
pub mod caller;
mod catalogue;
pub mod command;
pub mod config;
mod downloads;
pub mod error;
pub mod grants;
mod janitor;
mod jobs;
mod metalink;
mod metrics;
mod notices;
pub mod passwords;
mod peer;
pub mod placement;
mod probe;
mod registration;
pub mod registry;
mod relay;
pub mod replication;
mod routes;
pub mod secrets;
pub mod store;
mod tally;
mod throttle;

pub use app::App;
pub use config::Config;
