//! Replication of files that the info-server assigned, and repair of files with lost or corrupt chunks.
//!
//! Few files at a time; a verified chunk counts at once, is served and reported, and is never fetched again. Nothing is stored
//! but the chunks: after a start, or once space, sources or the info-server are back, the rest is fetched.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chunk_store::{Blob, VolumeState};
use lifecycle::{Shutdown, fault_log::FaultLog};
use rand::RngExt as _;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use transfer::{
    download::{DownloadError, DownloadPlan, Engine, Settings},
    progress::{Notice, Progress},
    sink::Sink,
};
use wire::{ChunkSet, Digest, FileId};

use super::{
    replica_standing::{NextStep, ReplicaStanding},
    replication_error::ReplicationError,
    source_tracker::{SourceTracker, TrackedFile, apply_rate_limits},
};
use crate::{db::DatabaseError, state::AppState};

/// Incomplete files read from the database at once.
const BATCH_SIZE: u32 = 1024;
/// Time for which a file may wait for a source before other files get its place.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests in flight at one source.
const CONNECTIONS_PER_SOURCE: usize = 2;
/// Time for which no file is begun after the info-server did not answer.
const INFO_SERVER_PAUSE: Duration = Duration::from_secs(1);
/// Time between two look-ups while no file is incomplete; a file that becomes incomplete ends the wait.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Fetches files that are not complete here.
#[derive(Debug)]
pub(crate) struct Replicator {
    state: Arc<AppState>,
    /// Files fetched at a time.
    max_files: usize,
    client: reqwest::Client,
    /// Failures of sources, which each try meets again.
    source_faults: FaultLog,
}

/// The next try of a file that did not become complete.
#[derive(Debug, Clone)]
struct Retry {
    at: Instant,
    pause: Duration,
    /// Failure of the latest try.
    reason: String,
}

/// The files being fetched, and those that wait to be tried again.
#[derive(Debug, Default)]
struct ReplicationQueue {
    running: HashMap<FileId, CancellationToken>,
    retries: HashMap<FileId, Retry>,
    /// Time before which no file is begun, because the info-server did not answer.
    paused_until: Option<Instant>,
}

/// One file being fetched.
struct Fetch {
    plan: DownloadPlan,
    tracker: SourceTracker,
    /// Chunks that are stored already.
    held: ChunkSet,
    cancel: CancellationToken,
}

impl Replicator {
    /// Creates a replicator that fetches at most `max_files` files at a time with `client`.
    pub(crate) const fn new(state: Arc<AppState>, client: reqwest::Client, max_files: usize) -> Self {
        Self { state, max_files, client, source_faults: FaultLog::new("A source of replicas failed") }
    }

    /// Fetches incomplete files until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let this = Arc::new(self);
        let finishing = shutdown.finishing();
        let (mut volume, mut registered) = (this.state.blobs.volume().subscribe(), this.state.registered.subscribe());
        let (mut queue, mut tasks) = (ReplicationQueue::default(), JoinSet::new());
        let faults = FaultLog::new("Incomplete files cannot be looked up");
        loop {
            let is_healthy = *volume.borrow_and_update() == VolumeState::Healthy;
            let next = match this.start_files(&mut queue, &mut tasks, is_healthy).await {
                Ok(next) => {
                    faults.succeeded();
                    next
                }
                Err(error) => {
                    faults.failed(error);
                    Instant::now() + Duration::from_secs(3)
                }
            };
            tokio::select! {
                () = this.state.blobs.events().missing() => {}
                Some(ended) = tasks.join_next() => {
                    let (file, outcome) = ended?;
                    queue.running.remove(&file);
                    match outcome {
                        Ok(()) => drop(queue.retries.remove(&file)),
                        Err(error) => this.schedule_retry(file, &error, &mut queue).await,
                    }
                }
                // The senders are in the state.
                _ = volume.changed() => queue.retries.clear(),
                _ = registered.changed() => if *registered.borrow_and_update() {
                    // The info-server is back: files that waited for it need not wait longer.
                    queue.retries.clear();
                    queue.paused_until = None;
                },
                () = tokio::time::sleep_until(next.into()) => {}
                () = finishing.cancelled() => break,
            }
        }
        queue.running.values().for_each(CancellationToken::cancel);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Starts files that may start, stops those that must not go on, and returns the time of the next look-up.
    async fn start_files(
        self: &Arc<Self>,
        queue: &mut ReplicationQueue,
        tasks: &mut JoinSet<(FileId, Result<(), ReplicationError>)>,
        is_healthy: bool,
    ) -> Result<Instant, DatabaseError> {
        for (file, cancel) in &queue.running {
            if !is_healthy || !self.state.db.is_wanted(*file).await? {
                cancel.cancel();
            }
        }
        let now = Instant::now();
        if !is_healthy {
            return Ok(now + POLL_INTERVAL);
        }
        if let Some(until) = queue.paused_until.filter(|until| *until > now) {
            return Ok(until);
        }
        let incomplete = self.state.db.incomplete_files(BATCH_SIZE).await?;
        if incomplete.len() < usize::try_from(BATCH_SIZE).unwrap_or(usize::MAX) {
            queue.retries.retain(|file, _| incomplete.contains(file));
        }
        let ready = |file: &&FileId| queue.retries.get(*file).is_none_or(|retry| retry.at <= now);
        for file in incomplete.iter().filter(ready) {
            if queue.running.len() >= self.max_files {
                break;
            }
            // What lies on disk without a record is compared first.
            if queue.running.contains_key(file) || self.state.blobs.is_unrecorded(*file) {
                continue;
            }
            let (this, file, cancel) = (self.clone(), *file, CancellationToken::new());
            queue.running.insert(file, cancel.clone());
            tasks.spawn(async move { (file, Box::pin(this.replicate(file, cancel)).await) });
        }
        self.state.metrics.replicating.set(i64::try_from(queue.running.len()).unwrap_or(i64::MAX));
        Ok(queue
            .retries
            .values()
            .map(|retry| retry.at)
            .filter(|until| *until > now)
            .min()
            .unwrap_or(now + POLL_INTERVAL))
    }

    /// Schedules the next try of a file that did not become complete.
    async fn schedule_retry(&self, file: FileId, error: &ReplicationError, queue: &mut ReplicationQueue) {
        if matches!(error, ReplicationError::NotInCatalogue)
            && let Err(error) = self.state.db.cancel_repair(file).await
        {
            tracing::error!(%file, %error, "The repair of file {file} cannot be cancelled");
        }
        if error.is_info_server_away() {
            queue.paused_until = Some(Instant::now() + INFO_SERVER_PAUSE);
        }
        let Some(pauses) = error.retry_pauses() else {
            queue.retries.remove(&file);
            return;
        };
        let (before, reason) = (queue.retries.get(&file), error.to_string());
        let pause = pauses.next(before.map(|retry| retry.pause));
        if before.is_none_or(|before| before.reason != reason) {
            tracing::warn!(%file, %error, "Replica of file {file} is not complete yet; trying again");
        }
        let spread = pause.mul_f64(rand::rng().random_range(0.7..1.0));
        queue.retries.insert(file, Retry { at: Instant::now() + spread, pause, reason });
    }

    /// Fetches the chunks of `file` that are missing here.
    async fn replicate(&self, file: FileId, cancel: CancellationToken) -> Result<(), ReplicationError> {
        let state = &self.state;
        let details = state.info.file(file, &state.zone, true).await.map_err(ReplicationError::of)?;
        apply_rate_limits(state, &details);
        let token = details.download.clone().ok_or(ReplicationError::Unpublished)?;
        let manifest = state.info.manifest(file).await.map_err(ReplicationError::of)?;
        let layout = manifest.check().map_err(DownloadError::from)?;
        let digests: Vec<Digest> =
            manifest.chunks.iter().copied().collect::<Option<_>>().ok_or(ReplicationError::Unpublished)?;
        let blob = state.blobs.find_or_create(file, layout).await?;
        self.withdraw_other_chunks(file, &blob, &digests).await?;
        let held = blob.progress().0;
        let standing = ReplicaStanding {
            is_dropped: state.db.is_dropped(file).await?,
            is_complete: held.covers(0..layout.count()),
            is_wanted: state.db.is_wanted(file).await?,
        };
        match standing.next_step() {
            NextStep::Remove => {
                state.db.remove_file(file).await?;
                state.blobs.remove(vec![file]).await;
                return Err(ReplicationError::Unwanted);
            }
            NextStep::Keep => return Ok(()),
            NextStep::Reconcile => {
                state.db.question_file(file).await?;
                state.open_questions.notify_one();
                return Err(ReplicationError::Unwanted);
            }
            NextStep::Fetch => {}
        }
        tracing::info!(%file, held = held.len(), chunks = layout.count(), "Fetching the missing chunks of file {file}");
        let tracked = TrackedFile { file, layout };
        let tracker =
            SourceTracker::new(state.clone(), self.client.clone(), tracked, details.locations, token.token.clone());
        let sink = Arc::new(state.blobs.replica_sink(&blob, digests));
        let plan = DownloadPlan { manifest, sources: tracker.sources(), token };
        let fetch = Fetch { plan, tracker, held, cancel };
        let filled = self.fill(fetch, sink.clone()).await;
        // Also after a failure: verified chunks count, and the others can be written again.
        let finished = sink.finish().await;
        filled?;
        Ok(finished?)
    }

    async fn fill(&self, fetch: Fetch, sink: Arc<dyn Sink>) -> Result<(), DownloadError> {
        let Fetch { plan, tracker, held, cancel } = fetch;
        let file = plan.manifest.file;
        let (progress, mut notices) = Progress::new();
        let engine = Engine {
            client: self.client.clone(),
            settings: Settings {
                connections: CONNECTIONS_PER_SOURCE,
                fast_connections: 0,
                wait: SOURCE_TIMEOUT,
                rate_limiter: self.state.rate_limiter.clone(),
                strict_tiers: true,
            },
            directory: Arc::new(tracker),
            progress,
            cancel,
        };
        let mut filling = Box::pin(engine.fill(plan, sink, held));
        let filled = loop {
            tokio::select! {
                filled = &mut filling => break filled,
                Some(notice) = notices.recv() => self.note(file, &notice),
            }
        };
        self.note_all(file, &mut notices);
        let report = filled?;
        tracing::info!(%file, bytes = report.fetched, wasted = report.wasted, elapsed = ?report.elapsed, "Fetched the missing chunks of file {file}");
        Ok(())
    }

    fn note_all(&self, file: FileId, notices: &mut mpsc::Receiver<Notice>) {
        while let Ok(notice) = notices.try_recv() {
            self.note(file, &notice);
        }
    }

    fn note(&self, file: FileId, notice: &Notice) {
        match notice {
            Notice::WrongBytes { server, chunk } => {
                self.state.metrics.replication_mismatches.inc();
                if self.source_faults.begins(format_args!("{server}, chunk {chunk} of {file}")) {
                    tracing::error!(%file, %server, chunk, "Server {server} sent bytes that do not match the digest of chunk {chunk}");
                }
            }
            Notice::Lost { server, reason } => {
                if self.source_faults.begins(format_args!("{server}: {reason}")) {
                    tracing::info!(%file, %server, reason, "Source {server} failed: {reason}");
                }
            }
            Notice::Refused { .. }
            | Notice::Returned { .. }
            | Notice::Moved { .. }
            | Notice::TokenRenewed
            | Notice::Slow { .. }
            | Notice::Waiting { .. } => {}
        }
    }

    /// Withdraws chunks that an unfinished upload left here and that are not those of the file.
    async fn withdraw_other_chunks(
        &self,
        file: FileId,
        blob: &Arc<Blob>,
        digests: &[Digest],
    ) -> Result<(), ReplicationError> {
        if blob.progress().0.is_empty() {
            return Ok(());
        }
        let held = self.state.db.chunk_digests(file).await?;
        let right = |n: u32| usize::try_from(n).ok().and_then(|n| digests.get(n));
        let others: Vec<u32> =
            held.iter().filter(|held| right(held.chunk) != Some(&held.digest)).map(|held| held.chunk).collect();
        if !others.is_empty() {
            self.state.blobs.withdraw_chunks(file, &others).await?;
        }
        Ok(())
    }
}
