//! Why a download ends early.

use std::time::Duration;

use wire::catalog::ManifestError;

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
    /// It was cancelled.
    #[error("interrupted; start again to resume")]
    Interrupted,
}
