//! The engine against real sockets: sources of every kind of badness, and files of every awkward size.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its fixtures too")]

mod directory;
mod faults;
mod fill;
mod resume;
mod sizes;
mod speed;
mod world;
