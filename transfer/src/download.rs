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
    Digest, Layout, Runs,
    catalog::{IssuedToken, Manifest},
};

pub use self::{
    error::DownloadError,
    report::{Outcome, Report, SourceReport},
};
use crate::{
    journal::{Identity, Kin},
    pace::Pace,
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
    /// Up to so many, when these are more, at a source that gives each of them a fair rate: lines that are busy in the other
    /// direction, too, are not filled by few connections.
    pub fast_connections: usize,
    /// How long to wait, without a verified chunk, when no source is left.
    pub wait: Duration,
    /// How fast bytes may come.
    pub pace: Pace,
    /// Whether far sources are asked for what no near one holds, and for nothing else; else they also help where near ones
    /// give far less.
    pub keep_near: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 2,
            fast_connections: 0,
            wait: Duration::from_secs(60),
            pace: Pace::default(),
            keep_near: false,
        }
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
    /// Whether chunks are still on their way to the sources, so that it is no time to give up.
    pub hope: bool,
}

/// What a directory's error holds when there is no use in asking it again. The download ends as soon as no source serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The file is no more.
    #[error("{0}")]
    Gone(String),
    /// Whoever asks gets no token any more.
    #[error("{0}")]
    Refused(String),
}

/// The engine's way to ask whoever knows about the file: the info-server, in practice.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Asks for what the reason calls for.
    ///
    /// # Errors
    /// [`Ended`] ends a download that no source serves; with anything else the engine goes on with what it has and asks again later.
    async fn refresh(&self, why: Why) -> Result<Update, Box<dyn std::error::Error + Send + Sync>>;

    /// What there is to learn without a reason to ask: the engine waits for it all the time, and waits again once it was
    /// told. An end of this means news, so it should come now and then at most.
    async fn news(&self) -> Update {
        std::future::pending().await
    }
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
        let mut report = self.complete(job, place, &Kin::default()).await?.name().await?;
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// As [`Self::download`], but does not name the file yet; what its `kin` left in the `.part` file is resumed too.
    ///
    /// # Errors
    /// [`DownloadError`]; what was verified stays in the `.part` file.
    pub async fn complete(&self, job: Job, place: &Place, kin: &Kin) -> Result<Complete, DownloadError> {
        let started = Instant::now();
        let layout = job.manifest.check()?;
        let (part, held) = self.resume(&job, layout, (place, kin)).await?;
        let part = Arc::new(part);
        let filled = self.fill(job, Arc::clone(&part) as Arc<dyn Sink>, held).await;
        let mut report = filled.inspect_err(|_| part.save())?;
        part.save();
        report.elapsed = started.elapsed();
        Ok(Complete { part, report })
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
    async fn resume(
        &self,
        job: &Job,
        layout: Layout,
        (place, kin): (&Place, &Kin),
    ) -> Result<(PartFile, Runs), DownloadError> {
        let Manifest { file, size, root, .. } = job.manifest;
        let (place, kin, digests, cancel) =
            (place.clone(), kin.clone(), job.manifest.chunks.clone(), self.cancel.clone());
        blocking(move || {
            let (part, candidates) = PartFile::open(&place, (Identity { file, size, root }, &kin), layout)?;
            let held = part.resume(&digests, &candidates, &cancel)?;
            Ok((part, held))
        })
        .await?
    }
}

/// A file all of whose chunks are verified, under its `.part` name still. When it is dropped it stays there.
#[derive(Debug)]
pub struct Complete {
    part: Arc<PartFile>,
    report: Report,
}

impl Complete {
    /// What was done so far.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The SHA-256 of the whole, read from the disk once more.
    ///
    /// # Errors
    /// [`DownloadError::Interrupted`] when it was cancelled, and what the disk says.
    pub async fn sha256(&self, cancel: &CancellationToken) -> Result<Digest, DownloadError> {
        let (part, cancel) = (Arc::clone(&self.part), cancel.clone());
        blocking(move || part.sha256(&cancel)).await??.ok_or(DownloadError::Interrupted)
    }

    /// Syncs it and gives it its final name.
    ///
    /// # Errors
    /// [`DownloadError::Sink`].
    pub async fn name(self) -> Result<Report, DownloadError> {
        let Self { part, report } = self;
        blocking(move || part.finish()).await??;
        Ok(report)
    }
}

/// Runs what waits for a disk where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DownloadError> {
    // It fails only when the runtime is being shut down.
    tokio::task::spawn_blocking(work).await.map_err(|_| DownloadError::Interrupted)
}
