//! A joint download: takes the chunks of a job from its workers while others are still being fetched.

mod job_end;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use info_client::{InfoError, UserClient};
use tokio::time;
use tokio_util::sync::CancellationToken;
use transfer::{
    download::{DownloadError, DownloadPlan, Engine, Settings, VerifiedFile},
    journal::{PreviousAttempts, origin_digest},
    progress::Progress,
    sink::Destination,
};
use wire::{
    FileId, JobId,
    catalogue::IssuedToken,
    job::{JobInfo, JobState},
};

use super::{
    job_directory::JobDirectory,
    job_follower::{JobFollower, JobMonitor},
    outcome::{DownloadRequest, FetchedFile, JointOutcome},
    verification::{Verification, Verifier},
};
use crate::{
    context::Context,
    destination,
    progress::{self, Display, ProgressFeed, Reached, ShownFile},
    sources, text,
};

/// Parallel requests per worker.
const CONNECTIONS: usize = 4;
/// Parallel requests per fast worker. Its link is full of what it fetches itself: the congestion control of few connections (BBR)
/// then keeps too few bytes in flight to fill the other direction.
const FAST_CONNECTIONS: usize = 16;
/// Longest time for leaving the job, also after a signal.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts to begin.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Downloads the file of a job. Leaves the job at the end in every case, unless it is to be kept.
///
/// # Errors
/// Any failure before the file has its name; verified chunks are kept for the next run.
pub(crate) async fn joint(
    context: &Context,
    request: &DownloadRequest,
    job: JobInfo,
    display: Display,
) -> anyhow::Result<JointOutcome> {
    let (progress, notices) = Progress::new();
    let info = context.info_server()?.as_requester(request.requester);
    let (id, has_begun) = (job.id, job.state != JobState::Scheduled);
    let follower = JobFollower::start(info.clone(), context.common.zone.clone(), job, progress.clone());
    let download = JobDownload {
        context,
        request,
        display,
        monitor: Arc::clone(&follower.monitor),
        progress: progress.clone(),
        started: Instant::now(),
        has_begun: AtomicBool::new(has_begun),
    };
    let (monitor, seen) = (Arc::clone(&follower.monitor), progress.clone());
    let shown = progress::watch_job(display, ProgressFeed { progress, notices }, move || monitor.view().job.clone());
    let outcome = tokio::select! {
        outcome = download.run() => outcome,
        never = shown => match never {},
    };
    let outcome = outcome.map_err(|error| match error.downcast_ref() {
        Some(DownloadError::Interrupted) => {
            let now = seen.snapshot();
            error.context(Reached { done: now.bytes_done, total: Some(now.bytes_total) })
        }
        _ => error,
    });
    drop(follower);
    let restarts = matches!(outcome, Ok(JointOutcome::Restart(_)));
    if !request.keep || restarts {
        leave(&info, id, restarts).await?;
    }
    outcome
}

/// Leaves a job that ended, before it is requested again, or that is not needed any more.
///
/// # Errors
/// When it was to be requested again, but the account cancelled it.
async fn leave(info: &UserClient, id: JobId, restarts: bool) -> anyhow::Result<()> {
    match time::timeout(LEAVE_TIMEOUT, info.leave_job(id)).await {
        Ok(Ok(())) => {}
        // The request was withdrawn on purpose: it must not be repeated.
        Ok(Err(error)) if restarts && error.has_left() => bail!("job {id} was cancelled for your account"),
        Ok(Err(error)) => tracing::debug!(%error, "cannot leave job {id}"),
        Err(_) => tracing::debug!("cannot leave job {id}: the info-server does not answer"),
    }
    Ok(())
}

struct JobDownload<'a> {
    context: &'a Context,
    request: &'a DownloadRequest,
    display: Display,
    monitor: Arc<JobMonitor>,
    progress: Progress,
    started: Instant,
    /// Set once the job was seen running: from then on a stopped job was not cancelled before its start.
    has_begun: AtomicBool,
}

/// A file whose chunks are all here.
struct Fetched {
    file: VerifiedFile,
    /// Epoch of the digests that its chunks were verified with. Digests may have been withdrawn since.
    epoch: u64,
}

/// Change of a job that ends a run of the engine.
enum JobChange {
    /// Digests were withdrawn: the chunks that are here must be hashed again.
    DigestsWithdrawn,
    /// The job ended without a result.
    Ended,
}

impl JobDownload<'_> {
    async fn run(&self) -> anyhow::Result<JointOutcome> {
        let mut token = None;
        loop {
            if let Some(outcome) = self.wait_for_probe().await? {
                return Ok(outcome);
            }
            let fetched = match self.fetch_chunks(&mut token).await {
                Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Gone { .. })) => {
                    return Ok(JointOutcome::Restart("the info-server does not have it any more".to_owned()));
                }
                fetched => fetched?,
            };
            let Some(fetched) = fetched else {
                if let Some(outcome) = self.outcome_of_end()? {
                    return Ok(outcome);
                }
                continue;
            };
            match self.verify(&fetched).await? {
                Verification::Passed { checked, unchecked_reason, sha256 } => {
                    let path = self.destination()?.path();
                    let report = fetched.file.rename(&self.context.cancel).await?;
                    let job = self.monitor.view().job.clone();
                    let elapsed = self.started.elapsed();
                    return Ok(JointOutcome::Complete(Box::new(FetchedFile {
                        path,
                        size: report.size,
                        checked,
                        unchecked_reason,
                        sha256,
                        direct: None,
                        report: Some(report),
                        job: Some(Box::new(job)),
                        elapsed,
                    })));
                }
                Verification::DigestsWithdrawn => {
                    self.note("The info-server withdrew digests: verifying the downloaded chunks again");
                }
                Verification::JobEnded => {
                    if let Some(outcome) = self.outcome_of_end()? {
                        return Ok(outcome);
                    }
                }
            }
        }
    }

    async fn verify(&self, fetched: &Fetched) -> anyhow::Result<Verification> {
        let verifier = Verifier {
            monitor: &self.monitor,
            requested: self.request.sha256,
            epoch: fetched.epoch,
            max_silence: self.request.options.wait,
            cancel: &self.context.cancel,
        };
        verifier.verify(&fetched.file).await
    }

    fn note(&self, text: &str) {
        progress::note(self.display, "note", text);
    }

    fn destination(&self) -> anyhow::Result<Destination> {
        destination::of_download(&self.request.options, &self.monitor.view().job.name)
    }

    /// Waits until the info-server has probed the origin. Returns an outcome if there is no joint download.
    async fn wait_for_probe(&self) -> anyhow::Result<Option<JointOutcome>> {
        let mut changes = self.monitor.changes();
        let mut last_contact = Instant::now();
        let mut is_start_shown = false;
        loop {
            if let Some(outcome) = self.outcome_of_end()? {
                return Ok(Some(outcome));
            }
            let (state, start_at, file) = {
                let view = self.monitor.view();
                (view.job.state, view.job.start_at, view.file())
            };
            if state != JobState::Scheduled && file.is_some() {
                self.has_begun.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            if state == JobState::Scheduled && !std::mem::replace(&mut is_start_shown, true) {
                self.note(&format!("Waiting until {}; press Ctrl-C to cancel", text::timestamp(start_at)));
            }
            if let Some(refusal) = self.monitor.refusal() {
                bail!("the job is no longer available: {refusal}");
            }
            // Before the start, an info-server that is away does no harm.
            let is_early = self.monitor.info.estimated_server_time().is_some_and(|now| now < start_at);
            if self.monitor.is_connected() || is_early {
                last_contact = Instant::now();
            }
            let is_silent = last_contact.elapsed() >= self.request.options.wait;
            ensure!(!is_silent, "the info-server does not answer; start again to resume");
            let waited = time::timeout(RETRY_PAUSE, changes.changed());
            self.context.cancel.run_until_cancelled(waited).await.ok_or(DownloadError::Interrupted)?.ok();
        }
    }

    /// Fetches chunks until all are here. None when the job changed in a way that must be handled first.
    async fn fetch_chunks(&self, token: &mut Option<IssuedToken>) -> anyhow::Result<Option<Fetched>> {
        let file = self.monitor.view().file().context("the job has no file")?;
        self.update_all(file, token).await?;
        // The job ended meanwhile.
        let Some(token) = token.clone() else { return Ok(None) };
        let destination = self.destination()?;
        let (epoch, previous, plan) = {
            let view = self.monitor.view();
            let origin = Some(origin_digest(&view.job.url));
            let previous =
                PreviousAttempts { files: view.job.formerly.clone(), origin, validator: view.job.validator.clone() };
            let manifest = view.manifest().context("the job has no size")?;
            let sources = sources::ranked(view.locations(), self.monitor.zone.as_ref());
            (view.epoch, previous, DownloadPlan { manifest, sources, token })
        };
        let name = self.monitor.view().job.name.clone();
        let shown = ShownFile { id: plan.manifest.file, name, size: plan.manifest.size };
        progress::start(self.display, &shown, self.context.trace);
        let cancel = self.context.cancel.child_token();
        let engine = Engine {
            client: self.context.http()?,
            settings: Settings {
                connections: CONNECTIONS,
                fast_connections: FAST_CONNECTIONS,
                wait: self.request.options.wait,
                rate_limiter: self.context.rate_limiter.clone(),
                ..Settings::default()
            },
            directory: Arc::new(JobDirectory::new(Arc::clone(&self.monitor), file)),
            progress: self.progress.clone(),
            cancel: cancel.clone(),
        };
        let change = self.cancel_on_change(epoch, cancel);
        let fetched = async {
            let fetched = engine.fetch_verified(plan, &destination, &previous).await;
            engine.cancel.cancel();
            fetched
        };
        // Both are awaited to their ends: the `.part` file must be free before the next step.
        match tokio::join!(fetched, change) {
            (Ok(file), None | Some(JobChange::Ended)) => Ok(Some(Fetched { file, epoch })),
            (Ok(_), Some(JobChange::DigestsWithdrawn)) => Ok(None),
            (Err(DownloadError::Interrupted), Some(_)) if !self.context.cancel.is_cancelled() => Ok(None),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Cancels the engine when the job changes in a way that makes its work useless. Ends with the engine, too.
    async fn cancel_on_change(&self, epoch: u64, engine: CancellationToken) -> Option<JobChange> {
        let mut changes = self.monitor.changes();
        loop {
            let change = {
                let view = self.monitor.view();
                if view.epoch != epoch {
                    Some(JobChange::DigestsWithdrawn)
                } else {
                    view.job.state.is_dead().then_some(JobChange::Ended)
                }
            };
            if change.is_some() {
                engine.cancel();
                return change;
            }
            match engine.run_until_cancelled(changes.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Requests all digests and locations, and a token, before the existing part is hashed.
    async fn update_all(&self, file: FileId, token: &mut Option<IssuedToken>) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let update = self.context.cancel.run_until_cancelled(self.request_file(file, token.is_none()));
            match update.await.ok_or(DownloadError::Interrupted)? {
                Ok(fresh) => {
                    *token = fresh.or(token.take());
                    ensure!(token.is_some(), "the info-server sent no download token for this job");
                    return Ok(());
                }
                // With a token, the known sources are enough.
                Err(_) if token.is_some() => return Ok(()),
                Err(error) if error.status().is_some() || begun.elapsed() > self.request.options.wait => {
                    // The new state of the job, which may be on its way, explains more than a 404.
                    time::sleep(RETRY_PAUSE).await;
                    return if self.monitor.view().job.state.is_dead() { Ok(()) } else { Err(error.into()) };
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot start the download of a job's file yet");
                    time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn request_file(&self, file: FileId, grant: bool) -> Result<Option<IssuedToken>, InfoError> {
        let details = self.monitor.info.file(file, self.monitor.zone.as_ref(), grant).await?;
        let manifest = self.monitor.info.manifest(file).await?;
        self.monitor.update(|view| {
            view.apply_locations(details.locations);
            view.apply_manifest(&manifest);
        });
        Ok(details.download)
    }
}
