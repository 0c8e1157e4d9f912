//! The engine against real sockets: sources with every kind of fault, and files of every awkward size.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its fixtures too")]

mod directory;
mod faults;
mod fill;
mod limits;
mod resume;
mod silence;
mod sizes;
mod speed;
mod tampering;
mod unfinished;
mod world;
