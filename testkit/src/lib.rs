//! Real servers inside a test, and servers that misbehave as told.

#![expect(
    clippy::indexing_slicing,
    reason = "an unknown key of a JSON value is null; any other wrong index should fail its test"
)]

pub mod cluster;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod rogue;
