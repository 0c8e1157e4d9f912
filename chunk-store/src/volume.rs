//! The volume that holds the blobs.

pub(crate) mod ballast;
pub(crate) mod health;
pub(crate) mod reserve;
