#![doc = include_str!("../README.md")]

mod app;
mod content;
mod db;
mod error;
mod events;
mod http;
mod integrity;
mod metrics;
mod replication;
mod slots;
mod state;
mod tokens;
mod upstream;
mod url_fetch;

pub mod catalogue_sync;
pub mod cli;
pub mod config;

pub use app::App;
pub use chunk_store::Reserve;
pub use integrity::scrub_trigger::ScrubTrigger;
pub use upstream::advertised_address::PublicUrl;
