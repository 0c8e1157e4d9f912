#![doc = include_str!("../README.md")]

pub mod account;
pub mod catalogue;
pub mod chunks;
pub mod digest;
pub mod event;
pub mod grammar;
pub mod id;
pub mod job;
pub mod name;
pub mod origin_url;
pub mod problem;
pub mod range;
#[cfg(feature = "openapi")]
mod schema;
pub mod server;
pub mod token;
pub mod trace;

pub use chunks::{ChunkIndex, ChunkLayout, ChunkSet};
pub use digest::{Digest, Hasher};
pub use id::{FileId, JobId, Label, RequesterId, ServerId, SessionId, TokenId, Zone};
pub use name::FileName;
pub use origin_url::OriginUrl;
pub use problem::{Problem, ProblemKind};
pub use trace::TraceId;
