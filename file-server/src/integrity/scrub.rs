//! Rounds that verify everything stored: what a disk returns later is not always what it was given. Corrupt bytes are
//! withdrawn first, then fetched again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chunk_store::{BlobError, ChunkVerifier};
use jiff::Timestamp;
use lifecycle::{Shutdown, fault_log::FaultLog};
use tokio::sync::Notify;
use wire::FileId;

use super::{manifest_digests::ManifestDigests, scrub_trigger::ScrubTrigger};
use crate::{config::Replication, db::scrub_progress::ScrubProgress, state::AppState};

/// Time between two searches for lost blobs. Cheap: names and sizes only.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a failure of the database.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// Time until a file is tried again whose verification failed.
const FILE_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Verifies everything stored, in rounds.
#[derive(Debug)]
pub(crate) struct Scrubber {
    state: Arc<AppState>,
    /// Time from the start of one round to the start of the next.
    interval: Duration,
    verifier: ChunkVerifier,
    trigger: ScrubTrigger,
    /// Notified when a round is to start while the scrubber rests.
    started: Notify,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Verify a file whose read failed.
    VerifyQueued(FileId),
    /// Search for lost blobs.
    FindLost,
    /// Verify the next file of the round.
    VerifyNext,
    /// Nothing, for this time.
    Rest(Duration),
}

impl Scrubber {
    pub(crate) fn new(state: Arc<AppState>, settings: &Replication, trigger: ScrubTrigger) -> Self {
        let catalogue = ManifestDigests::new(state.clone());
        let verifier = ChunkVerifier::new(state.blobs.clone(), catalogue, settings.scrub_rate);
        Self { state, interval: settings.scrub_every.into(), verifier, trigger, started: Notify::new() }
    }

    /// Verifies until `shutdown`; a round that it interrupts goes on after the next start.
    pub(crate) async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut last_lookup = Instant::now();
        let faults = FaultLog::new("Stored files cannot be verified now; trying again");
        loop {
            let mut working = Box::pin(self.work(&mut last_lookup));
            let mut worked = loop {
                tokio::select! {
                    worked = &mut working => break worked,
                    () = self.trigger.triggered() => {
                        self.verifier.interrupt();
                        self.started.notify_one();
                    }
                    () = finishing.cancelled() => return Ok(()),
                }
            };
            drop(working);
            if self.verifier.resume() {
                worked = self.begin_round().await;
            }
            if let Err(error) = worked {
                faults.failed(error);
                tokio::select! {
                    () = tokio::time::sleep(FAILURE_PAUSE) => {}
                    () = finishing.cancelled() => return Ok(()),
                }
            } else {
                faults.succeeded();
            }
        }
    }

    /// Begins a round now.
    async fn begin_round(&self) -> Result<(), BlobError> {
        tracing::info!("Verification of all stored files started");
        let progress = self.state.db.scrub_progress().await?;
        let begun = ScrubProgress { begun_at: Some(self.state.clock.now()), file: None, ..progress };
        Ok(self.state.db.set_scrub_progress(begun).await?)
    }

    /// Does one thing.
    async fn work(&self, last_lookup: &mut Instant) -> Result<(), BlobError> {
        let stored = self.state.db.scrub_progress().await?;
        let progress = not_after(stored, self.state.clock.now());
        if progress != stored {
            self.state.db.set_scrub_progress(progress).await?;
        }
        let queued = self.state.blobs.scrub_queue().pop(Instant::now());
        match self.next_task(queued, progress, last_lookup.elapsed()) {
            Task::VerifyQueued(file) => {
                tracing::info!(%file, "Verifying file {file}: a read of it failed, or another file lies under its name");
                self.verify_or_defer(file).await
            }
            Task::FindLost => {
                *last_lookup = Instant::now();
                for file in self.state.blobs.find_lost().await? {
                    self.state.blobs.drop_if_lost(file).await?;
                }
                self.state.blobs.queue_replaced().await
            }
            Task::VerifyNext => self.next_file(progress).await,
            Task::Rest(rest) => {
                tokio::select! {
                    () = self.state.blobs.scrub_queue().added() => {}
                    () = self.started.notified() => {}
                    () = tokio::time::sleep(rest) => {}
                }
                Ok(())
            }
        }
    }

    /// Verifies a file. One that the disk does not return in time is tried again later, and does not hold up the others.
    async fn verify_or_defer(&self, file: FileId) -> Result<(), BlobError> {
        let Err(error) = self.verifier.verify(file).await else { return Ok(()) };
        self.state.blobs.scrub_queue().defer(file, Instant::now() + FILE_RETRY_PAUSE);
        if !matches!(error, BlobError::DiskTimeout | BlobError::Disk(_)) {
            return Err(error);
        }
        tracing::warn!(%file, %error, "File {file} cannot be verified now; trying again in a minute");
        Ok(())
    }

    fn next_task(&self, queued: Option<FileId>, progress: ScrubProgress, since_lookup: Duration) -> Task {
        if let Some(file) = queued {
            return Task::VerifyQueued(file);
        }
        if since_lookup >= LOOKUP_INTERVAL {
            return Task::FindLost;
        }
        let due = until_due(progress, self.interval, self.state.clock.now());
        if due.is_zero() { Task::VerifyNext } else { Task::Rest(due.min(LOOKUP_INTERVAL.saturating_sub(since_lookup))) }
    }

    /// Verifies the next file of the round, or ends the round.
    async fn next_file(&self, progress: ScrubProgress) -> Result<(), BlobError> {
        let db = &self.state.db;
        let now = self.state.clock.now();
        let progress = match progress {
            // Everything on a new server was verified just now.
            ScrubProgress { begun_at: None, done_at: None, .. } => {
                return Ok(db.set_scrub_progress(ScrubProgress { done_at: Some(now), ..progress }).await?);
            }
            ScrubProgress { begun_at: None, .. } => ScrubProgress { begun_at: Some(now), file: None, ..progress },
            running => running,
        };
        let next = match db.note(db.file_after(progress.file).await)? {
            Some(file) => {
                self.verify_or_defer(file).await?;
                ScrubProgress { file: Some(file), ..progress }
            }
            None => {
                tracing::info!("Verification of all stored files ended");
                ScrubProgress { done_at: progress.begun_at, begun_at: None, file: None }
            }
        };
        Ok(db.set_scrub_progress(next).await?)
    }
}

/// Returns the progress without times in the future, which a clock that was ahead has left: with them no round would be due
/// until then.
fn not_after(progress: ScrubProgress, now: Timestamp) -> ScrubProgress {
    let clamp = |at: Option<Timestamp>| at.map(|at| at.min(now));
    ScrubProgress { done_at: clamp(progress.done_at), begun_at: clamp(progress.begun_at), ..progress }
}

/// Returns the time until a file is to be verified: none while a round runs.
fn until_due(progress: ScrubProgress, interval: Duration, now: Timestamp) -> Duration {
    match progress {
        ScrubProgress { begun_at: Some(_), .. } | ScrubProgress { done_at: None, .. } => Duration::ZERO,
        ScrubProgress { done_at: Some(done), .. } => {
            let since = Duration::try_from(now.duration_since(done)).unwrap_or_default();
            interval.saturating_sub(since)
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_round_is_due_so_long_after_the_last_one_began_and_a_running_one_goes_on() {
        let (day, done) = (Duration::from_secs(86_400), Timestamp::UNIX_EPOCH);
        let rests = ScrubProgress { done_at: Some(done), ..ScrubProgress::default() };
        let later = |hours| done + SignedDuration::from_hours(hours);
        assert_eq!(until_due(rests, day, later(6)), day * 3 / 4);
        assert_eq!(until_due(rests, day, later(25)), Duration::ZERO);
        assert_eq!(until_due(rests, day, done - SignedDuration::from_hours(1)), day, "time that went back");
        let ahead = ScrubProgress { done_at: Some(later(1000)), ..rests };
        let clamped = not_after(ahead, done);
        assert_eq!(until_due(clamped, day, later(25)), Duration::ZERO, "a clock that was ahead at the first start");
        let runs = ScrubProgress { begun_at: Some(later(1)), ..rests };
        assert_eq!(until_due(runs, day, later(1)), Duration::ZERO);
    }
}
