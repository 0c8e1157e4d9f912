#![doc = include_str!("../README.md")]

mod address;
mod answer;
mod app;
mod apply;
mod blobs;
mod catchup;
mod clock;
mod error;
mod identity;
mod info;
mod metrics;
mod registration;
mod reports;
mod routes;
mod running;
mod sendfile;
mod server;
mod slots;
mod store;
mod tokens;

pub mod config;
pub mod import;

pub use address::PublicUrl;
pub use app::App;
