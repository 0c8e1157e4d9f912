#![doc = include_str!("../README.md")]

pub mod download;
pub mod info;
mod journal;
pub mod progress;
pub mod schedule;
pub mod sink;
pub mod source;
pub mod upload;
