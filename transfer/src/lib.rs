#![doc = include_str!("../README.md")]

pub mod download;
pub mod info;
pub mod journal;
pub mod pace;
pub mod progress;
pub mod schedule;
pub mod sink;
pub mod source;
pub mod upload;
