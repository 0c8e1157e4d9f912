//! The fleet: the file servers that are enrolled, and which of them are live.

pub(crate) mod address_check;
pub mod candidate;
pub mod members;
pub(crate) mod registration;
pub mod registry;
pub mod server;
pub mod store;
