//! The errors that end a download early.

use std::time::Duration;

use wire::{ChunkSet, catalogue::ManifestError, grammar::is_or_are};

use super::directory::PermanentError;
use crate::sink::SinkError;

/// The error of a download that ended early. What was verified is kept: the same download, started again, continues there.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The manifest contradicts itself.
    #[error("the manifest is invalid: {0}")]
    Manifest(#[from] ManifestError),
    /// The bytes cannot be stored.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// No source gave a chunk for as long as the settings allow.
    #[error("no source gave a chunk for {} s: {}; start again to resume", .waited.as_secs(), explain(.lost.as_deref(), .reasons))]
    NoSources {
        /// The time waited.
        waited: Duration,
        /// The chunks that no source can give, if there are any.
        lost: Option<String>,
        /// The last error of each source.
        reasons: String,
    },
    /// No server holds these chunks any more. All others are verified.
    #[error("{} {} on no file server any more", .chunks.describe(), is_or_are(.chunks.len()))]
    Lost {
        /// The chunks.
        chunks: ChunkSet,
    },
    /// The file no longer exists. What was verified is kept, but is of no use for a download.
    #[error("the file is no longer there: {reason}")]
    Gone {
        /// The directory's explanation.
        reason: String,
    },
    /// No source accepts the token, and the directory gives no other.
    #[error("the token is refused, and there is no new one: {reason}; start again to resume")]
    Refused {
        /// The directory's explanation.
        reason: String,
    },
    /// The download was cancelled.
    #[error("interrupted; start again to resume")]
    Interrupted,
}

fn explain(lost: Option<&str>, reasons: &str) -> String {
    lost.map_or_else(|| reasons.to_owned(), |lost| format!("{lost} ({reasons})"))
}

impl From<PermanentError> for DownloadError {
    fn from(error: PermanentError) -> Self {
        match error {
            PermanentError::Gone(reason) => Self::Gone { reason },
            PermanentError::Refused(reason) => Self::Refused { reason },
        }
    }
}
