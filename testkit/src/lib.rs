//! placeholder
pub mod rabbitmq;
