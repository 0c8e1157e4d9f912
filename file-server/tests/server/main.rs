//! The real server on port 0, with a small stand-in for the info-server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails says where; sizes here are small"
)]

mod content;
mod damage;
mod events;
mod fetching;
mod imports;
mod info;
mod node;
mod process;
mod ready;
mod records;
mod repair;
mod sparse;
mod tokens;
mod uploads;
mod volume;
