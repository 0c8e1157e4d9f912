//! Publishes a file to many servers at once.

use std::{fs::File, io};

use tokio_util::sync::CancellationToken;
use wire::{Digest, ServerId, catalog::UploadPlan};

/// A file that the servers hold now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// SHA-256 of each chunk, in order.
    pub digests: Vec<Digest>,
    /// One per target, in the plan's order.
    pub targets: Vec<TargetReport>,
}

/// What one target did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReport {
    /// The server.
    pub server: ServerId,
    /// Bytes it took.
    pub sent: u64,
    /// Bytes it held already.
    pub resumed: u64,
    /// Why it was left behind, if it was.
    pub failure: Option<String>,
}

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Reading the file failed.
    #[error("cannot read the file: {0}")]
    Read(#[from] io::Error),
    /// Size or modification time changed, or the bytes differ when read again.
    #[error("the file changed while it was read; publish it again when it is complete")]
    Changed,
    /// The plan is of a file of another size.
    #[error("the plan's chunk size does not fit a file of {size} bytes")]
    Plan {
        /// Bytes in the file.
        size: u64,
    },
    /// Too many targets failed.
    #[error("{alive} of the {quorum} servers needed are left: {reasons}")]
    Quorum {
        /// Targets that still work.
        alive: usize,
        /// Targets that the commit needs.
        quorum: u32,
        /// What each failed target said.
        reasons: String,
    },
    /// It was cancelled.
    #[error("interrupted; publish again with the same id to resume")]
    Interrupted,
}

/// Sends files.
pub struct Publisher {
    /// Made by [`crate::source::client_builder`].
    pub client: reqwest::Client,
    /// Whether to ask the targets first which chunks they hold.
    pub resume: bool,
    /// Ends the upload soon.
    pub cancel: CancellationToken,
    /// Told the bytes that all living targets hold, after every chunk. Must return at once.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
}

impl Publisher {
    /// Reads `file` once from its beginning, hashes it and sends every chunk to every target of the plan.
    ///
    /// # Errors
    /// [`UploadError`]; what the targets took stays there, so that a second try with `resume` sends only the rest.
    pub async fn publish(&self, _file: File, _plan: &UploadPlan) -> Result<Published, UploadError> {
        Err(UploadError::Interrupted)
    }
}
