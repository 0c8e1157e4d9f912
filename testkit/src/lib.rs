//! Real servers inside a test, and servers that misbehave as told.

pub mod rabbitmq;
pub mod rogue;
