//! Why a download ends early.

use std::time::Duration;

use wire::catalog::ManifestError;

use super::Ended;
use crate::sink::SinkError;

/// Why a download ended early. Whatever was verified is kept: the same download, started again, goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The manifest contradicts itself.
    #[error("the manifest cannot be believed: {0}")]
    Manifest(#[from] ManifestError),
    /// The bytes cannot be kept.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// No source gave a chunk for as long as the settings allow.
    #[error("no source gave a chunk for {} s: {}; start again to resume", .waited.as_secs(), .reasons)]
    NoSources {
        /// How long.
        waited: Duration,
        /// What each source said last.
        reasons: String,
    },
    /// The file is no more: what was verified is kept, but of no use for a download.
    #[error("the file is no longer there: {reason}")]
    Gone {
        /// What the directory said.
        reason: String,
    },
    /// No source takes the token, and there is no other one.
    #[error("the token is refused, and there is no new one: {reason}; start again to resume")]
    Refused {
        /// What the directory said.
        reason: String,
    },
    /// It was cancelled.
    #[error("interrupted; start again to resume")]
    Interrupted,
}

impl From<Ended> for DownloadError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Gone(reason) => Self::Gone { reason },
            Ended::Refused(reason) => Self::Refused { reason },
        }
    }
}
