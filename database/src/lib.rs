#![doc = include_str!("../README.md")]

pub mod connection;
pub mod fault;
pub mod migrations;
pub mod recorded;
pub mod transaction;
