#![doc = include_str!("../README.md")]

pub mod app;
pub mod caller;
pub mod command;
pub mod config;
pub mod error;
pub mod grants;
mod janitor;
pub mod passwords;
pub mod placement;
mod probe;
pub mod registry;
mod relay;
mod routes;
pub mod secrets;
pub mod store;

pub use app::App;
pub use config::Config;
