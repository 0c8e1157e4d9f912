//! What follows from a decision, beside what is stored of the job.

use wire::{Digest, FileId, ServerId};

use crate::store::audit::Deed;

/// Something to be done in the transaction of the decision, or after it.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// The job has a file now.
    AddFile,
    /// Its file goes, on every server.
    RemoveFile(FileId),
    /// Those who may work on it are told that there is work.
    Hint,
    /// A worker lied: it is to drop what it holds.
    Convict(ServerId),
    /// All of it was fetched and is to be kept: servers are told to hold it.
    Assign,
    /// It becomes a file of the catalogue.
    Publish(Digest, Vec<Digest>),
    /// It stands where it is to: those who only fetched it drop it.
    Tidy,
    /// The origin is asked what it has; a doubt whether it changed, or the first time.
    Probe,
    /// A chunk is fetched here, to decide whose digest is right.
    Judge(u32),
    /// Somebody's deed is written down.
    Record(Deed),
    /// It is forgotten.
    Forget,
}
