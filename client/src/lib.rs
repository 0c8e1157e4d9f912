#![doc = include_str!("../README.md")]

pub mod cli;
pub mod commands;
mod fetch;
pub mod link;
pub mod progress;
pub mod session;
mod shell;
mod text;
pub mod when;

pub use commands::{Exit, run};
