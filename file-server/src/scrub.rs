//! Reading everything held again: what a disk gives back later is not always what it was given. What is not as it was is
//! taken out of service first, then fetched again.

use std::{
    io,
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifecycle::Shutdown;
use rustix::fs::Advice;
use tokio::sync::Notify;
use transfer::pace::{Bucket, wait};
use wire::{Digest, FileId, Hasher};

use crate::{
    app::ScrubNow,
    blobs::{Blob, BlobError, blocking, in_time},
    config::Replication,
    server::Server,
    store::ScrubProgress,
};

/// Bytes read at a time.
const BLOCK: u64 = 1 << 20;
/// How often to look whether all blobs are in their places. Cheap: names and sizes only.
const LOOK: Duration = Duration::from_secs(10);
/// How long to leave everything alone after a failure that is nobody's fault here.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Reads everything again, in rounds.
#[derive(Debug)]
pub(crate) struct Scrubber {
    server: Arc<Server>,
    every: Duration,
    rate: Bucket,
    now: ScrubNow,
    /// A round is to begin: what runs stops where nothing is left half done.
    begins: AtomicBool,
    begun: Notify,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Look at one file at which something was seen.
    Suspect(FileId),
    /// Look whether all blobs are in their places.
    Look,
    /// Read the next file of a round.
    Next,
    /// Nothing, for so long.
    Rest(Duration),
}

impl Scrubber {
    pub(crate) fn new(server: Arc<Server>, settings: &Replication, now: ScrubNow) -> Self {
        let rate = Bucket::new(settings.scrub_rate.as_u64());
        Self {
            server,
            every: settings.scrub_every.into(),
            rate,
            now,
            begins: AtomicBool::new(false),
            begun: Notify::new(),
        }
    }

    /// Works until `shutdown`; a round that it interrupts goes on after the next start.
    pub(crate) async fn keep_scrubbing(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let mut looked = Instant::now();
        loop {
            let mut working = Box::pin(self.work(&mut looked));
            let mut worked = loop {
                tokio::select! {
                    worked = &mut working => break worked,
                    () = self.now.asked() => {
                        self.begins.store(true, Ordering::Relaxed);
                        self.begun.notify_one();
                    }
                    () = finishing.cancelled() => return Ok(()),
                }
            };
            drop(working);
            if self.begins.swap(false, Ordering::Relaxed) {
                worked = self.begin().await;
            }
            if let Err(error) = worked {
                tracing::error!(%error, "what is held cannot be read again now; trying again");
                tokio::select! {
                    () = tokio::time::sleep(AFTER_FAILURE) => {}
                    () = finishing.cancelled() => return Ok(()),
                }
            }
        }
    }

    /// Begins a round now.
    async fn begin(&self) -> Result<(), BlobError> {
        tracing::info!("reading everything held again");
        let progress = self.server.store.scrub_progress().await?;
        let begun = ScrubProgress { begun_at: Some(self.server.clock.now()), file: None, ..progress };
        Ok(self.server.store.set_scrub_progress(begun).await?)
    }

    /// Does one thing.
    async fn work(&self, looked: &mut Instant) -> Result<(), BlobError> {
        let progress = self.server.store.scrub_progress().await?;
        let suspect = self.server.blobs.suspects.next();
        match self.next_task(suspect, progress, looked.elapsed()) {
            Task::Suspect(file) => {
                tracing::info!(%file, "reading a replica again at which something was seen");
                self.read_again(file).await.inspect_err(|_| self.server.blobs.suspects.add(file))
            }
            Task::Look => {
                *looked = Instant::now();
                for file in self.server.blobs.seemingly_lost().await? {
                    self.server.blobs.drop_if_lost(file).await?;
                }
                Ok(())
            }
            Task::Next => self.next_file(progress).await,
            Task::Rest(rest) => {
                tokio::select! {
                    () = self.server.blobs.suspects.more.notified() => {}
                    () = self.begun.notified() => {}
                    () = tokio::time::sleep(rest) => {}
                }
                Ok(())
            }
        }
    }

    fn next_task(&self, suspect: Option<FileId>, progress: ScrubProgress, since_look: Duration) -> Task {
        if let Some(file) = suspect {
            return Task::Suspect(file);
        }
        if since_look >= LOOK {
            return Task::Look;
        }
        let due = until_due(progress, self.every, self.server.clock.now());
        if due.is_zero() { Task::Next } else { Task::Rest(due.min(LOOK.saturating_sub(since_look))) }
    }

    /// Reads the next file of the round, or ends it.
    async fn next_file(&self, progress: ScrubProgress) -> Result<(), BlobError> {
        let store = &self.server.store;
        let now = self.server.clock.now();
        let progress = match progress {
            // What a new server holds was verified just now.
            ScrubProgress { begun_at: None, done_at: None, .. } => {
                return Ok(store.set_scrub_progress(ScrubProgress { done_at: Some(now), ..progress }).await?);
            }
            ScrubProgress { begun_at: None, .. } => ScrubProgress { begun_at: Some(now), file: None, ..progress },
            running => running,
        };
        let next = match store.file_after(progress.file).await? {
            Some(file) => {
                self.read_again(file).await?;
                ScrubProgress { file: Some(file), ..progress }
            }
            None => {
                tracing::info!("read everything held again");
                ScrubProgress { done_at: progress.begun_at, begun_at: None, file: None }
            }
        };
        Ok(store.set_scrub_progress(next).await?)
    }

    /// Compares one replica with the digests of its chunks.
    async fn read_again(&self, file: FileId) -> Result<(), BlobError> {
        let server = &self.server;
        if server.blobs.drop_if_lost(file).await? {
            return Ok(());
        }
        let digests = server.store.chunk_digests(file).await?;
        let Some(blob) = in_time(server.blobs.find(file)).await? else { return Ok(()) };
        for (n, digest) in digests {
            let Some(chunk) = blob.layout().chunk(n).filter(|chunk| blob.holds(*chunk)) else { continue };
            let bytes = blob.layout().bytes_of(chunk);
            // Twice: memory errs as well, and a replica should not be dropped for it.
            if self.is_good(&blob, &bytes, digest).await? || self.is_good(&blob, &bytes, digest).await? {
                continue;
            }
            if server.blobs.drop_if_lost(file).await? {
                return Ok(());
            }
            server.blobs.quarantine(file, &[n]).await?;
        }
        Ok(())
    }

    /// Whether the bytes are those of the digest. Bytes that the disk does not give back are not.
    async fn is_good(&self, blob: &Arc<Blob>, bytes: &Range<u64>, digest: Digest) -> Result<bool, BlobError> {
        let mut hasher = Hasher::new();
        let mut at = bytes.start;
        while at < bytes.end {
            if self.begins.load(Ordering::Relaxed) {
                // It is read again soon.
                return Ok(true);
            }
            let block = at..bytes.end.min(at.saturating_add(BLOCK));
            let now = Instant::now();
            if let Some(wait) = wait(self.rate.take(block.end - block.start, now), now) {
                tokio::time::sleep(wait).await;
            }
            at = block.end;
            let reading = blob.clone();
            // A stalled disk says nothing about the bytes.
            match in_time(async { Ok(blocking(move || read(&reading, &block)).await) }).await? {
                Ok(content) => hasher.update(&content),
                Err(error) => {
                    tracing::error!(%error, at, "bytes cannot be read");
                    return Ok(false);
                }
            }
        }
        self.server.metrics.scrubbed_bytes.inc_by(bytes.end - bytes.start);
        Ok(hasher.finish() == digest)
    }
}

/// Reads from the disk what may lie in memory as well, and leaves in memory what lay there.
fn read(blob: &Blob, bytes: &Range<u64>) -> io::Result<Vec<u8>> {
    let length = bytes.end.saturating_sub(bytes.start);
    let was_in_memory = blob.is_in_memory(bytes, BLOCK).unwrap_or(true);
    let forget = || {
        // Advice only: where it is not taken, bytes are read from memory, or stay there.
        let _ = rustix::fs::fadvise(&**blob.file(), bytes.start, NonZeroU64::new(length), Advice::DontNeed);
    };
    forget();
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    blob.file().read_exact_at(&mut content, bytes.start)?;
    if !was_in_memory {
        forget();
    }
    Ok(content)
}

/// How long until there is something to read: not at all while a round runs.
fn until_due(progress: ScrubProgress, every: Duration, now: Timestamp) -> Duration {
    match progress {
        ScrubProgress { begun_at: Some(_), .. } | ScrubProgress { done_at: None, .. } => Duration::ZERO,
        ScrubProgress { done_at: Some(done), .. } => {
            let since = Duration::try_from(now.duration_since(done)).unwrap_or_default();
            every.saturating_sub(since)
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
        let runs = ScrubProgress { begun_at: Some(later(1)), ..rests };
        assert_eq!(until_due(runs, day, later(1)), Duration::ZERO);
    }
}
