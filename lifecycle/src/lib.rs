#![doc = include_str!("../README.md")]

pub mod data_folder;
pub mod descriptors;
pub mod error_line;
pub mod fault_log;
pub mod folder_lock;
pub mod names;
pub mod private_file;
pub mod runtime;
pub mod settings;
pub mod shutdown;
pub mod systemd;
pub mod tasks;
pub mod telemetry;

pub use shutdown::Shutdown;
pub use tasks::Tasks;
