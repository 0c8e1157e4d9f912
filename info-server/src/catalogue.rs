//! The catalogue: files, what they are made of, and which account sees them.

pub mod file;
pub(crate) mod metalink;
pub mod orphan;
pub(crate) mod publication;
pub(crate) mod search;
pub mod store;
pub(crate) mod visibility;
