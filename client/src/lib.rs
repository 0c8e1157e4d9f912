#![doc = include_str!("../README.md")]

pub mod cli;
pub mod commands;
pub mod progress;
pub mod session;
mod text;

pub use commands::{Exit, run};
