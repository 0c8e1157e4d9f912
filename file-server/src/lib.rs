#![doc = include_str!("../README.md")]

mod address;
mod answer;
mod app;
mod apply;
mod blobs;
mod catchup;
mod clock;
mod error;
mod fetch;
mod identity;
mod info;
mod metrics;
mod notices;
mod reconcile;
mod registration;
mod replicate;
mod reports;
mod routes;
mod running;
mod scrub;
mod sendfile;
mod server;
mod slots;
mod store;
mod tokens;
mod volume;

pub mod config;
pub mod import;
pub mod unknown;

pub use address::PublicUrl;
pub use app::{App, ScrubNow};
pub use volume::Reserve;
