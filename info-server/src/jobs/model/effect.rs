//! The consequences of a decision outside the job's own state.

use wire::{Digest, FileId, ServerId};

use crate::accounts::audit::AuditEntry;

/// An action that belongs to the transaction of the decision, or follows it.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// Adds the job's file to the catalogue, visible to its requesters alone.
    AddFile,
    /// Deletes the job's file, on every server.
    RemoveFile(FileId),
    /// Sends a hint to the zones that may work on the job.
    HintWorkers,
    /// Has a worker that returned a wrong digest drop what it holds.
    ExcludeFaulty(ServerId),
    /// Assigns servers to hold all of a kept result.
    AssignReplicas,
    /// Publishes the file in the catalogue.
    Publish {
        /// The SHA-256 of the whole.
        sha256: Digest,
        /// The SHA-256 of each chunk.
        digests: Vec<Digest>,
    },
    /// Releases the workers that are no replicas, once the replicas are complete.
    ReleaseWorkers,
    /// Asks the origin what it offers: for a start, or because the content may have changed.
    ProbeOrigin,
    /// Fetches a chunk to the info-server, which decides a conflict.
    Arbitrate(u32),
    /// Appends an audit entry.
    Audit(AuditEntry),
    /// Deletes the job's rows.
    Forget,
}
