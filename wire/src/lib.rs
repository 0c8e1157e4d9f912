#![doc = include_str!("../README.md")]

pub mod catalog;
pub mod chunks;
pub mod digest;
pub mod event;
pub mod id;
pub mod name;
pub mod problem;
pub mod range;
pub mod server;
pub mod token;

pub use chunks::{ChunkIndex, Layout, Runs};
pub use digest::{Digest, Hasher};
pub use id::{FileId, Label, ServerId, TokenId, Zone};
pub use name::FileName;
pub use problem::Problem;
