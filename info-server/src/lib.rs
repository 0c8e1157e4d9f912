#![doc = include_str!("../README.md")]

pub mod accounts;
pub mod app;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod db;
pub mod error;
pub mod events;
pub mod fleet;
mod http;
mod jobs;
pub mod maintenance;
mod metrics;
pub mod replication;
mod state;
pub mod tokens;
