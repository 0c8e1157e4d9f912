#![doc = include_str!("../README.md")]

pub mod download;
pub mod journal;
pub mod progress;
pub mod rate_limiter;
pub mod schedule;
pub mod sink;
pub mod source;
pub mod upload;
