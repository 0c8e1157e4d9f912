//! Storage for verified bytes.

mod access_watch;
mod chunk_sink;
mod destination;
mod error;
mod folder_entry;
mod lock_file;
mod part_file;
mod resume;
mod sequential_file;
mod staged_file;

pub use self::{
    chunk_sink::Sink,
    destination::Destination,
    error::SinkError,
    sequential_file::{HeldBytes, JointRemains, SequentialFile},
};
pub(crate) use self::{part_file::PartFile, resume::Hashing};
