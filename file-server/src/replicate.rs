//! Becoming a complete replica of what the info-server assigned, and of what was lost or spoiled here.
//!
//! Few files at a time; what is verified counts at once, is served and reported, and is never fetched again. Nothing is
//! remembered but the chunks: after a start, or once room, sources or the info-server are back, the rest is fetched.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lifecycle::Shutdown;
use rand::RngExt as _;
use reqwest::StatusCode;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use transfer::{
    download::{DownloadError, Engine, Job, Settings},
    progress::{Notice, Progress},
    sink::{Sink, SinkError},
    source::client_builder,
};
use wire::{Digest, FileId};

use crate::{
    blobs::{Blob, BlobError},
    info::InfoError,
    server::Server,
    store::StoreError,
    volume::Volume,
};

mod whereabouts;

use whereabouts::{Whereabouts, limit};

/// Files looked at together.
const ROUND: u32 = 1024;
/// How long a file may occupy its place while no source gives anything: others may be able to go on.
const WAIT: Duration = Duration::from_secs(20);
/// Requests in flight at one source.
const CONNECTIONS: usize = 2;
/// How long nothing begins after the info-server did not answer.
const AWAY: Duration = Duration::from_secs(1);
/// How long to look away when nothing is missing: whatever is then missing says so.
const IDLE: Duration = Duration::from_secs(60);

/// Fetches what is missing here.
#[derive(Debug)]
pub(crate) struct Replicator {
    server: Arc<Server>,
    /// Files at a time.
    most: usize,
    client: reqwest::Client,
}

/// Why a file did not become complete.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it is not published yet")]
    Unpublished,
    #[error("the info-server knows no such file")]
    Unknown,
    #[error("it is no longer wanted here")]
    Unwanted,
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Download(#[from] DownloadError),
}

/// When a file that did not become complete is tried again.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    pause: Duration,
}

#[derive(Debug, Default)]
struct Course {
    running: HashMap<FileId, CancellationToken>,
    rests: HashMap<FileId, Rest>,
    /// The info-server did not answer: nothing begins before.
    away_until: Option<Instant>,
}

impl Replicator {
    pub(crate) fn new(server: Arc<Server>, most: usize) -> anyhow::Result<Self> {
        let user_agent = concat!("ddm-file-server/", env!("CARGO_PKG_VERSION"));
        Ok(Self { server, most, client: client_builder().user_agent(user_agent).build()? })
    }

    /// Fetches what is missing until `shutdown`.
    pub(crate) async fn keep_replicating(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let this = Arc::new(self);
        let finishing = shutdown.finishing();
        let (mut volume, mut registered) = (this.server.blobs.volume.subscribe(), this.server.registered.subscribe());
        let (mut course, mut tasks) = (Course::default(), JoinSet::new());
        loop {
            let is_well = *volume.borrow_and_update() == Volume::Well;
            let next = match this.start_what_is_missing(&mut course, &mut tasks, is_well).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "what is missing here cannot be looked up");
                    Instant::now() + Duration::from_secs(3)
                }
            };
            tokio::select! {
                () = this.server.blobs.wanting.notified() => {}
                Some(ended) = tasks.join_next() => {
                    let (file, outcome) = ended?;
                    course.running.remove(&file);
                    this.judge(file, outcome, &mut course).await;
                }
                // The senders are the server's own.
                _ = volume.changed() => course.rests.clear(),
                _ = registered.changed() => if *registered.borrow_and_update() {
                    // The info-server is back: whoever waited for it need not wait longer.
                    course.rests.clear();
                    course.away_until = None;
                },
                () = tokio::time::sleep_until(next.into()) => {}
                () = finishing.cancelled() => break,
            }
        }
        course.running.values().for_each(CancellationToken::cancel);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Starts what may start, stops what must; answers when to look again.
    async fn start_what_is_missing(
        self: &Arc<Self>,
        course: &mut Course,
        tasks: &mut JoinSet<(FileId, Result<(), Failure>)>,
        is_well: bool,
    ) -> Result<Instant, StoreError> {
        for (file, cancel) in &course.running {
            if !is_well || !self.server.store.is_wanted(*file).await? {
                cancel.cancel();
            }
        }
        let now = Instant::now();
        if !is_well {
            return Ok(now + IDLE);
        }
        if let Some(until) = course.away_until.filter(|until| *until > now) {
            return Ok(until);
        }
        let missing = self.server.store.missing(ROUND).await?;
        if missing.len() < usize::try_from(ROUND).unwrap_or(usize::MAX) {
            course.rests.retain(|file, _| missing.contains(file));
        }
        let ready = |file: &&FileId| course.rests.get(*file).is_none_or(|rest| rest.until <= now);
        for file in missing.iter().filter(ready) {
            if course.running.len() >= self.most {
                break;
            }
            if course.running.contains_key(file) {
                continue;
            }
            let (this, file, cancel) = (self.clone(), *file, CancellationToken::new());
            course.running.insert(file, cancel.clone());
            tasks.spawn(async move { (file, Box::pin(this.replicate(file, cancel)).await) });
        }
        self.server.metrics.replicating.set(i64::try_from(course.running.len()).unwrap_or(i64::MAX));
        Ok(course.rests.values().map(|rest| rest.until).filter(|until| *until > now).min().unwrap_or(now + IDLE))
    }

    /// Says how a file fared, and when it is tried again.
    async fn judge(&self, file: FileId, outcome: Result<(), Failure>, course: &mut Course) {
        let Err(error) = outcome else {
            course.rests.remove(&file);
            return;
        };
        let (first, longest) = match &error {
            Failure::Unwanted | Failure::Download(DownloadError::Interrupted) => {
                course.rests.remove(&file);
                return;
            }
            // It waited long enough already.
            Failure::Download(DownloadError::NoSources { .. }) => (1, 1),
            Failure::Unpublished => (1, 15),
            Failure::Unknown => {
                if let Err(error) = self.server.store.give_up_repair(file).await {
                    tracing::error!(%file, %error, "what cannot be fetched again cannot be forgotten");
                }
                (30, 60)
            }
            Failure::Info(InfoError::Unreachable(_) | InfoError::NoRoute(_)) => {
                course.away_until = Some(Instant::now() + AWAY);
                (1, 30)
            }
            error if error.is_full() => (5, 5),
            _ => (1, 30),
        };
        let before = course.rests.get(&file).map(|rest| rest.pause);
        let pause = before.map_or(Duration::from_secs(first), |pause| pause * 2).min(Duration::from_secs(longest));
        if before.is_none() {
            tracing::warn!(%file, %error, "a replica is not complete yet; trying again");
        }
        let spread = pause.mul_f64(rand::rng().random_range(0.7..1.0));
        course.rests.insert(file, Rest { until: Instant::now() + spread, pause });
    }

    /// Makes this server a complete replica of `file`.
    async fn replicate(&self, file: FileId, cancel: CancellationToken) -> Result<(), Failure> {
        let server = &self.server;
        let details = server.info.details(file, &server.zone, true).await.map_err(Failure::of)?;
        limit(server, &details);
        let token = details.download.clone().ok_or(Failure::Unpublished)?;
        let manifest = server.info.manifest(file).await.map_err(Failure::of)?;
        let layout = manifest.check().map_err(DownloadError::from)?;
        let digests: Vec<Digest> =
            manifest.chunks.iter().copied().collect::<Option<_>>().ok_or(Failure::Unpublished)?;
        let blob = server.blobs.find_or_make(file, layout).await?;
        self.give_up_others(file, &blob, &digests).await?;
        // What was decided while the blob was being made must not be undone by it.
        if !server.store.is_wanted(file).await? {
            server.store.forget_file(file).await?;
            server.blobs.remove(vec![file]).await;
            return Err(Failure::Unwanted);
        }
        let held = blob.progress().0;
        if held.covers(0..layout.count()) {
            return Ok(());
        }
        tracing::info!(%file, held = held.len(), chunks = layout.count(), "fetching a replica");
        let whereabouts = Whereabouts::new(
            server.clone(),
            self.client.clone(),
            details.locations,
            (layout, file),
            token.token.clone(),
        );
        let intake = Arc::new(server.blobs.take_in(&blob, digests));
        let job = Job { manifest, sources: whereabouts.sources(), token };
        let filled = self.fill(job, whereabouts, intake.clone(), (held, cancel)).await;
        // Also after a failure: what was verified counts, and its turns are free again.
        let settled = intake.settle().await;
        filled?;
        Ok(settled?)
    }

    async fn fill(
        &self,
        job: Job,
        whereabouts: Whereabouts,
        sink: Arc<dyn Sink>,
        (held, cancel): (wire::Runs, CancellationToken),
    ) -> Result<(), DownloadError> {
        let file = job.manifest.file;
        let (progress, mut notices) = Progress::new();
        let engine = Engine {
            client: self.client.clone(),
            settings: Settings {
                connections: CONNECTIONS,
                fast_connections: 0,
                wait: WAIT,
                pace: self.server.pace.clone(),
                keep_near: true,
            },
            directory: Arc::new(whereabouts),
            progress,
            cancel,
        };
        let mut filling = Box::pin(engine.fill(job, sink, held));
        let filled = loop {
            tokio::select! {
                filled = &mut filling => break filled,
                Some(notice) = notices.recv() => self.note(file, &notice),
            }
        };
        self.note_rest(file, &mut notices);
        let report = filled?;
        tracing::info!(%file, bytes = report.fetched, wasted = report.wasted, elapsed = ?report.elapsed, "fetched a replica");
        Ok(())
    }

    fn note_rest(&self, file: FileId, notices: &mut mpsc::Receiver<Notice>) {
        while let Ok(notice) = notices.try_recv() {
            self.note(file, &notice);
        }
    }

    fn note(&self, file: FileId, notice: &Notice) {
        match notice {
            Notice::WrongBytes { server, chunk } => {
                self.server.metrics.replication_mismatches.inc();
                tracing::error!(%file, %server, chunk, "a server sent bytes that do not match their digest");
            }
            Notice::Lost { server, reason } => tracing::info!(%file, %server, reason, "a source failed"),
            Notice::Refused { .. }
            | Notice::Returned { .. }
            | Notice::Moved { .. }
            | Notice::TokenRenewed
            | Notice::Waiting => {}
        }
    }

    /// Chunks that an unfinished upload left here and that are not those of the file do not count.
    async fn give_up_others(&self, file: FileId, blob: &Arc<Blob>, digests: &[Digest]) -> Result<(), Failure> {
        if blob.progress().0.is_empty() {
            return Ok(());
        }
        let held = self.server.store.chunk_digests(file).await?;
        let right = |n: u32| usize::try_from(n).ok().and_then(|n| digests.get(n));
        let others: Vec<u32> = held.iter().filter(|(n, digest)| right(*n) != Some(digest)).map(|(n, _)| *n).collect();
        if !others.is_empty() {
            self.server.blobs.quarantine(file, &others).await?;
        }
        Ok(())
    }
}

impl Failure {
    fn of(error: InfoError) -> Self {
        match error {
            InfoError::Refused { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. } => Self::Unknown,
            InfoError::Refused { status: StatusCode::CONFLICT, .. } => Self::Unpublished,
            other => Self::Info(other),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_full(),
            Self::Store(error) => error.is_full(),
            Self::Download(DownloadError::Sink(SinkError::Full { .. })) => true,
            _ => false,
        }
    }
}
