//! The answers of the directory, and their effect on a running download.

use std::{sync::Arc, time::Duration};

use wire::ChunkSet;

use super::{DIRECTORY_TIMEOUT, DownloadDriver, RefreshOutcome};
use crate::{
    download::{
        directory::{PermanentError, RefreshReason, Update},
        error::DownloadError,
        source_stats::SourceStats,
    },
    progress::Notice,
    schedule::SourceId,
    source::Source,
};

/// Lifetime of a token whose issuer does not name one: the info-server's default.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Sources beyond this number are ignored, whatever a directory sends.
const MAX_SOURCES: usize = 256;

impl DownloadDriver<'_> {
    /// Asks the directory in a task of its own.
    pub(super) fn refresh(&mut self, reason: RefreshReason) {
        let directory = Arc::clone(&self.engine.directory);
        let file = self.plan.manifest.file;
        self.refreshes.spawn(async move {
            match tokio::time::timeout(DIRECTORY_TIMEOUT, directory.refresh(reason)).await {
                Ok(Ok(update)) => RefreshOutcome::Update(Box::new(update)),
                Ok(Err(error)) => {
                    tracing::debug!(%file, %error, ?reason, "The directory gave no update for the download of file {file}");
                    let permanent = error.downcast::<PermanentError>();
                    permanent.map_or(RefreshOutcome::Unavailable, |error| RefreshOutcome::Permanent(*error))
                }
                Err(_) => RefreshOutcome::Unavailable,
            }
        });
    }

    pub(super) fn handle_refresh(&mut self, outcome: RefreshOutcome) -> Result<(), DownloadError> {
        let brought_new = match outcome {
            RefreshOutcome::Update(update) => self.apply(*update),
            // A live source may serve a file that the directory, restored from a backup perhaps, does not list.
            RefreshOutcome::Permanent(error) if self.in_flight.is_empty() && !self.schedule.any_live() => {
                return Err(error.into());
            }
            RefreshOutcome::Permanent(_) | RefreshOutcome::Unavailable => {
                self.lost = ChunkSet::new();
                false
            }
        };
        self.refresh_policy.finished(brought_new, self.now());
        Ok(())
    }

    /// Waits, in a task of its own, for the next unsolicited update.
    pub(super) fn await_update(&mut self) {
        let directory = Arc::clone(&self.engine.directory);
        self.updates.spawn(async move { directory.updates().await });
    }

    /// Applies an unsolicited update and waits for the next one. After a panic of the directory, none is awaited any more.
    pub(super) fn handle_update(&mut self, update: Option<Update>) {
        if let Some(update) = update {
            self.apply(update);
            self.await_update();
        }
    }

    /// Applies an update. Returns true if it brought new digests or sources.
    fn apply(&mut self, update: Update) -> bool {
        let mut brought_new = false;
        if update.more_expected {
            self.schedule.expect_more(self.now());
        }
        if let Some(manifest) = update.manifest.filter(|manifest| manifest.check() == Ok(self.layout)) {
            // A known digest is never replaced: bytes may have been verified with it.
            if manifest.file == self.plan.manifest.file {
                for (known, new) in self.plan.manifest.chunks.iter_mut().zip(manifest.chunks) {
                    *known = known.or(new);
                }
                brought_new |= self.add_digests();
            }
        }
        if let Some(token) = update.token {
            self.plan.token = token;
            self.use_token();
            self.schedule.token_renewed();
            self.engine.progress.notice(Notice::TokenRenewed);
        }
        self.lost = update.lost.unwrap_or_else(|| std::mem::take(&mut self.lost));
        for source in update.sources.into_iter().flatten() {
            brought_new |= self.add_source(source);
        }
        brought_new
    }

    /// Ends the download when only chunks are left that no server holds any more. The directory is asked once more when
    /// everything else is there: its last answer may be from before a server found or repaired them.
    pub(super) fn end_if_lost(&mut self, now: Duration) -> Result<(), DownloadError> {
        let was_exhausted = std::mem::replace(&mut self.is_exhausted, self.schedule.is_exhausted());
        if self.is_exhausted && !was_exhausted {
            self.lost = ChunkSet::new();
            self.refresh_policy.ask_soon(now);
        }
        if !self.is_exhausted || self.lost.is_empty() {
            return Ok(());
        }
        let chunks = self.schedule.lost_chunks();
        let is_lost = chunks.iter().all(|run| self.lost.covers(run));
        if is_lost { Err(DownloadError::Lost { chunks }) } else { Ok(()) }
    }

    pub(super) fn use_token(&mut self) {
        // The clock of this machine may be wrong, so only the span counts. A refused token is renewed in any case.
        let lifetime = self.plan.token.lifetime_s.map_or(ASSUMED_LIFETIME, Duration::from_secs);
        self.refresh_policy.token_in_use(lifetime, self.now());
    }

    pub(super) fn add_digests(&mut self) -> bool {
        let known = (0..).zip(&self.plan.manifest.chunks).filter(|(_, digest)| digest.is_some());
        self.schedule.add_digests(&known.map(|(n, _): (u32, _)| n..n + 1).collect())
    }

    /// Adds a source or updates a known one. Returns true if that changed anything.
    pub(super) fn add_source(&mut self, source: Source) -> bool {
        let Source { location, tier } = source;
        let known = self.sources.iter_mut().zip(0..).find(|(known, _)| known.location.server == location.server);
        if let Some((known, index)) = known {
            let has_changed = self.schedule.set_source(SourceId::new(index), tier, location.runs.clone());
            known.location = location;
            return has_changed;
        }
        let has_room = self.sources.len() < MAX_SOURCES;
        if has_room {
            self.schedule.add_source(tier, location.runs.clone());
            self.sources.push(SourceStats::new(location));
        }
        has_room
    }
}
