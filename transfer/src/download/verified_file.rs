//! A complete file before its final rename.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wire::Digest;

use super::{blocking::blocking, error::DownloadError, report::Report};
use crate::{
    progress::Progress,
    sink::{Hashing, PartFile, SinkError},
};

/// A file all of whose chunks are verified and that still has its `.part` name. Dropping it leaves it there.
#[derive(Debug)]
pub struct VerifiedFile {
    pub(super) part: Arc<PartFile>,
    /// All digests: some may have become known during the download.
    pub(super) digests: Vec<Option<Digest>>,
    pub(super) progress: Progress,
    pub(super) report: Report,
}

impl VerifiedFile {
    /// Returns the report of the download so far.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Computes the SHA-256 of the whole file by reading it from the disk once more.
    ///
    /// # Errors
    /// [`DownloadError::Interrupted`] when `cancel` was cancelled, and [`DownloadError::Sink`] when the disk fails.
    pub async fn sha256(&self, cancel: &CancellationToken) -> Result<Digest, DownloadError> {
        let (part, cancel) = (Arc::clone(&self.part), cancel.clone());
        blocking(move || part.sha256(&cancel)).await??.ok_or(DownloadError::Interrupted)
    }

    /// Syncs the file and gives it its final name. If another process may have changed its bytes since they were verified,
    /// they are read again first.
    ///
    /// # Errors
    /// [`DownloadError::Sink`], and [`DownloadError::Interrupted`] when `cancel` was cancelled while the bytes were read.
    pub async fn rename(self, cancel: &CancellationToken) -> Result<Report, DownloadError> {
        let Self { part, digests, progress, report } = self;
        let reading = cancel.clone();
        match blocking(move || part.finish(&digests, &Hashing { cancel: &reading, progress: &progress })).await? {
            Err(SinkError::Changed(_)) if cancel.is_cancelled() => Err(DownloadError::Interrupted),
            finished => finished.map(|()| report).map_err(Into::into),
        }
    }
}
