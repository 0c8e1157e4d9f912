#![doc = include_str!("../README.md")]

pub mod api;
pub mod descriptors;
pub mod healthcheck;
pub mod http;
pub mod listen;
pub mod observe;
pub mod private_file;
pub mod settings;
pub mod shutdown;
pub mod systemd;
pub mod tasks;
pub mod telemetry;

pub use shutdown::Shutdown;
pub use tasks::Tasks;
