//! The publication of a file to many servers at once.

mod accepted_rate;
mod driver;
mod in_flight;
mod report;
mod target;
mod upload_chunk;

use std::fs::{File, Metadata};

use tokio_util::sync::CancellationToken;
use wire::{ChunkLayout, catalogue::UploadPlan};

use self::driver::{UploadDriver, UploadSettings};
pub use self::{
    accepted_rate::{BODY_GRACE_TIME, MIN_ACCEPTED_BODY_RATE},
    report::{Published, TargetReport, UploadError, UploadEvent},
};
use crate::rate_limiter::RateLimiter;

/// Publishes files.
pub struct Publisher {
    /// Built from [`crate::source::client_builder`].
    pub client: reqwest::Client,
    /// Set to ask the targets first which chunks they hold.
    pub resume: bool,
    /// The limit on sent bytes.
    pub rate_limiter: RateLimiter,
    /// Ends the upload soon.
    pub cancel: CancellationToken,
    /// Called after every chunk, and when the upload goes on without a target. Must return at once.
    pub progress: Box<dyn Fn(UploadEvent) + Send + Sync>,
}

impl Publisher {
    /// Reads `file` once from its beginning, hashes it and sends every chunk to every target of the plan. Chunks too large
    /// for memory are read again, from the page cache, while they are sent.
    ///
    /// A list of held chunks that a target sends is trusted here: the commit compares the root of every replica.
    ///
    /// A target that makes no progress is left behind as soon as the others make the quorum: after seconds, not after all its
    /// attempts.
    ///
    /// # Errors
    /// [`UploadError`]. The targets keep the chunks that they accepted, so that a second attempt with `resume` sends only
    /// the rest.
    pub async fn publish(&self, file: File, plan: &UploadPlan) -> Result<Published, UploadError> {
        let before = file.metadata()?;
        let layout = ChunkLayout::of(before.len()).ok().filter(|layout| layout.chunk_size() == plan.chunk_size);
        let layout = layout.ok_or(UploadError::Plan { size: before.len() })?;
        let settings = UploadSettings {
            client: &self.client,
            resume: self.resume,
            rate_limiter: &self.rate_limiter,
            progress: &*self.progress,
        };
        let mut driver = UploadDriver::new(settings, plan, layout, file);
        let (sha256, digests) = tokio::select! {
            () = self.cancel.cancelled() => return Err(UploadError::Interrupted),
            sent = driver.run() => sent?,
        };
        if has_changed(&before, &driver.file_metadata()?) {
            return Err(UploadError::Changed);
        }
        Ok(Published { sha256, digests, targets: driver.into_reports() })
    }
}

fn has_changed(before: &Metadata, after: &Metadata) -> bool {
    before.len() != after.len() || before.modified().ok() != after.modified().ok()
}
