//! The download of one file from many sources.

mod blocking;
mod directory;
mod driver;
mod engine;
mod error;
mod lost_chunks;
mod mismatch_reports;
mod plan;
mod refresh_policy;
mod report;
mod slow_watch;
mod source_stats;
mod verified_file;

use std::{sync::Arc, time::Instant};

use wire::{ChunkSet, catalogue::Manifest};

use self::{
    blocking::blocking,
    driver::{DownloadDriver, Filled},
};
pub use self::{
    directory::{Directory, PermanentError, RefreshReason, Update},
    engine::{Engine, Settings},
    error::DownloadError,
    plan::DownloadPlan,
    report::{Outcome, Report, SourceReport},
    verified_file::VerifiedFile,
};
use crate::{
    journal::{FileIdentity, PreviousAttempts},
    sink::{Destination, Hashing, PartFile, Sink},
};

impl Engine {
    /// Downloads into a file: resumes what is there, fetches the rest, syncs, renames.
    ///
    /// # Errors
    /// [`DownloadError`]. The final name is then untouched, and what was verified stays in the `.part` file.
    pub async fn download(&self, plan: DownloadPlan, destination: &Destination) -> Result<Report, DownloadError> {
        let started = Instant::now();
        let verified = self.fetch_verified(plan, destination, &PreviousAttempts::default()).await?;
        let mut report = verified.rename(&self.cancel).await?;
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// Downloads like [`Self::download`], but does not rename the file yet, and also resumes what `previous` attempts left
    /// in the `.part` file.
    ///
    /// # Errors
    /// [`DownloadError`]. What was verified stays in the `.part` file.
    pub async fn fetch_verified(
        &self,
        plan: DownloadPlan,
        destination: &Destination,
        previous: &PreviousAttempts,
    ) -> Result<VerifiedFile, DownloadError> {
        let started = Instant::now();
        let (part, held) = self.resume(&plan, destination, previous).await?;
        let part = Arc::new(part);
        if self.cancel.is_cancelled() {
            return Err(DownloadError::Interrupted);
        }
        let layout = plan.manifest.check()?;
        let sink = Arc::clone(&part) as Arc<dyn Sink>;
        let filled = DownloadDriver::new(self, plan, layout, sink, held).run().await;
        let Filled { mut report, digests } = filled.inspect_err(|_| part.save())?;
        part.save();
        report.elapsed = started.elapsed();
        Ok(VerifiedFile { part, digests, progress: self.progress.clone(), report })
    }

    /// Fetches into any sink the chunks that are not in `held`. The caller syncs and names the result.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn fill(&self, plan: DownloadPlan, sink: Arc<dyn Sink>, held: ChunkSet) -> Result<Report, DownloadError> {
        let layout = plan.manifest.check()?;
        Ok(DownloadDriver::new(self, plan, layout, sink, held).run().await?.report)
    }

    /// Opens the `.part` file and finds out which of its chunks are valid.
    async fn resume(
        &self,
        plan: &DownloadPlan,
        destination: &Destination,
        previous: &PreviousAttempts,
    ) -> Result<(PartFile, ChunkSet), DownloadError> {
        let layout = plan.manifest.check()?;
        let Manifest { file, size, root, .. } = plan.manifest;
        let identity = FileIdentity { file, size, root };
        let (destination, previous) = (destination.clone(), previous.clone());
        let (digests, cancel) = (plan.manifest.chunks.clone(), self.cancel.clone());
        let progress = self.progress.clone();
        progress.update(|now| now.hashing = None);
        blocking(move || {
            let (part, candidates) = PartFile::open(&destination, identity, &previous, layout)?;
            let held = part.resume(&digests, &candidates, &Hashing { cancel: &cancel, progress: &progress })?;
            Ok((part, held))
        })
        .await?
    }
}
