#![doc = include_str!("../README.md")]

mod background;
pub mod cli;
pub mod commands;
mod conclusion;
pub mod context;
mod destination;
pub mod entry_ref;
mod error_message;
mod exit;
mod foreground;
pub mod link;
mod lookup;
mod missing_chunks;
mod output;
pub mod progress;
mod run;
pub mod session;
mod shell;
mod sources;
pub mod start_time;
pub mod target;
mod text;
mod url_download;

pub use self::{exit::Exit, run::main};
