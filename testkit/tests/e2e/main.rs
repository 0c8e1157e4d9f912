//! Users' promises, shown on real processes: one module per group of promises.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "what is not as expected should fail its test"
)]

mod accounts;
mod acknowledged;
mod backups;
mod brokers;
mod catalogue;
mod certificates;
mod chaos;
mod command_line;
mod commands;
mod content;
mod crowded;
mod disks;
mod downloads;
mod earlier_version;
mod events;
mod faults;
mod fetching;
mod filesystems;
mod first_steps;
mod gaps;
mod hostile;
mod jobs;
mod links;
mod listeners;
mod local;
mod matrix;
mod network;
mod operators;
mod origins;
mod outputs;
mod power_cuts;
mod promptness;
mod pruning;
mod publishing;
mod references;
mod repair;
mod secrets;
mod settings;
mod signals;
mod standing;
mod terminal;
mod tokens;
mod volumes;
mod watching;
mod zones;
