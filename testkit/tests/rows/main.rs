//! What users were promised, shown on real processes: one module per group of promises.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "what is not as expected should fail its test"
)]

mod accounts;
mod catalogue;
mod content;
mod downloads;
mod events;
mod faults;
mod local;
mod settings;
mod tokens;
