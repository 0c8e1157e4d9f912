//! Downloads one file from many sources.

mod asking;
mod course;
mod error;
mod lines;
mod report;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use wire::{
    Layout, Runs,
    catalog::{IssuedToken, Manifest},
};

pub use self::{
    error::DownloadError,
    report::{Outcome, Report, SourceReport},
};
use crate::{
    journal::Identity,
    progress::Progress,
    sink::{PartFile, Place, Sink},
    source::Source,
};

/// What is to be downloaded, and what is known about it at the start.
#[derive(Debug, Clone)]
pub struct Job {
    /// The chunks and their digests. Digests may be missing: the [`Directory`] is then asked for more.
    pub manifest: Manifest,
    /// Where the chunks are, as far as known.
    pub sources: Vec<Source>,
    /// The right to take them.
    pub token: IssuedToken,
}

/// How to download.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests in flight at one source, at least 1. Two keep a line full while one of them ends; lines with much delay
    /// or loss gain from more.
    pub connections: usize,
    /// How long to wait, without a verified chunk, when no source is left.
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connections: 2, wait: Duration::from_secs(60) }
    }
}

/// Why the engine asks its [`Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Half of the token's life is over.
    TokenExpiring,
    /// A source refuses the token.
    TokenRefused,
    /// Chunks wait that no living source holds.
    NoSources,
    /// Chunks wait whose digests are not known.
    MoreDigests,
}

/// What the [`Directory`] knows; what is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// A new token.
    pub token: Option<IssuedToken>,
    /// All sources as they are now. One that is missing here is used as before: it may be alive nevertheless.
    pub sources: Option<Vec<Source>>,
    /// The manifest with more digests. One of another file or shape, or that changes a known digest, is ignored.
    pub manifest: Option<Manifest>,
}

/// The engine's way to ask whoever knows about the file: the info-server, in practice.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Asks for what the reason calls for.
    ///
    /// # Errors
    /// Anything: the engine goes on with what it has and asks again later.
    async fn refresh(&self, why: Why) -> Result<Update, Box<dyn std::error::Error + Send + Sync>>;
}

/// Downloads files.
pub struct Engine {
    /// Made by [`crate::source::client_builder`].
    pub client: reqwest::Client,
    /// How to download.
    pub settings: Settings,
    /// Whom to ask for tokens, sources and digests.
    pub directory: Arc<dyn Directory>,
    /// Shown to the user; one per download.
    pub progress: Progress,
    /// Ends the download soon and resumably.
    pub cancel: CancellationToken,
}

impl Engine {
    /// Downloads into a file: resumes what is there, fetches the rest, syncs, renames.
    ///
    /// # Errors
    /// [`DownloadError`]; the final name is then untouched, and what was verified stays in the `.part` file.
    pub async fn download(&self, job: Job, place: &Place) -> Result<Report, DownloadError> {
        let started = Instant::now();
        let layout = job.manifest.check()?;
        let (part, held) = self.resume(&job, layout, place).await?;
        let part = Arc::new(part);
        let filled = self.fill(job, Arc::clone(&part) as Arc<dyn Sink>, held).await;
        let mut report = filled.inspect_err(|_| part.save())?;
        blocking(move || part.finish()).await??;
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// Fetches into any sink the chunks that are not `held` yet. Syncing and naming is the caller's.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn fill(&self, job: Job, sink: Arc<dyn Sink>, held: Runs) -> Result<Report, DownloadError> {
        let layout = job.manifest.check()?;
        course::Course::new(self, job, layout, (sink, held)).run().await
    }

    /// Opens the `.part` file and finds out which of its chunks are good.
    async fn resume(&self, job: &Job, layout: Layout, place: &Place) -> Result<(PartFile, Runs), DownloadError> {
        let Manifest { file, size, root, .. } = job.manifest;
        let (place, digests, cancel) = (place.clone(), job.manifest.chunks.clone(), self.cancel.clone());
        blocking(move || {
            let (part, candidates) = PartFile::open(&place, Identity { file, size, root }, layout)?;
            let held = part.check(&digests, &candidates, &cancel);
            Ok((part, held))
        })
        .await?
    }
}

/// Runs what waits for a disk where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DownloadError> {
    // It fails only when the runtime is being shut down.
    tokio::task::spawn_blocking(work).await.map_err(|_| DownloadError::Interrupted)
}
