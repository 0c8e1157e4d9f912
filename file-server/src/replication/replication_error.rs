//! Reasons why a file did not become complete, and the pause that follows each.

use std::time::Duration;

use chunk_store::BlobError;
use info_client::InfoError;
use transfer::{download::DownloadError, sink::SinkError};

use crate::db::DatabaseError;

/// Reason why a file did not become complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplicationError {
    #[error("the file is not published yet")]
    Unpublished,
    #[error("the info-server has no such file")]
    NotInCatalogue,
    #[error("the file is not wanted here any more")]
    Unwanted,
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Download(#[from] DownloadError),
}

/// Pauses before a file is tried again; each is twice the one before, up to the longest.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPauses {
    first: Duration,
    max: Duration,
}

impl RetryPauses {
    const fn of_secs(first: u64, max: u64) -> Self {
        Self { first: Duration::from_secs(first), max: Duration::from_secs(max) }
    }

    /// Returns the pause after the one `before`.
    pub(super) fn next(self, before: Option<Duration>) -> Duration {
        before.map_or(self.first, |pause| pause * 2).min(self.max)
    }
}

impl ReplicationError {
    /// Turns an answer of the info-server about a file into the reason.
    pub(super) fn of(error: InfoError) -> Self {
        match error.http_status() {
            Some(404 | 410) => Self::NotInCatalogue,
            Some(409) => Self::Unpublished,
            _ => Self::Info(error),
        }
    }

    /// Returns the pauses before the file is tried again; `None` when it is not to be tried again.
    pub(super) fn retry_pauses(&self) -> Option<RetryPauses> {
        match self {
            Self::Unwanted | Self::Download(DownloadError::Interrupted) => None,
            // It waited long enough already.
            Self::Download(DownloadError::NoSources { .. }) => Some(RetryPauses::of_secs(1, 1)),
            Self::Unpublished => Some(RetryPauses::of_secs(1, 15)),
            Self::NotInCatalogue => Some(RetryPauses::of_secs(30, 60)),
            error if error.is_full() => Some(RetryPauses::of_secs(5, 5)),
            _ => Some(RetryPauses::of_secs(1, 30)),
        }
    }

    /// Returns true if the info-server did not answer.
    pub(super) const fn is_info_server_away(&self) -> bool {
        matches!(self, Self::Info(InfoError::Unreachable { .. }))
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_full(),
            Self::Database(error) => error.is_full(),
            Self::Download(DownloadError::Sink(SinkError::Full { .. })) => true,
            _ => false,
        }
    }
}
