//! Files that were written lately. Their sender waits for the report that they are complete, so their read-back is prompt.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use wire::FileId;

/// Time after the last commit of a file for which its report waits for the read-back, which does not pause meanwhile. A
/// publisher waits for the report.
pub(crate) const PROMPT_TIME: Duration = Duration::from_secs(5);

/// Files that were written lately: their reports wait for the read-back.
#[derive(Debug)]
pub(crate) struct RecentCommits {
    opened_at: Instant,
    committed_at: Mutex<HashMap<FileId, Instant>>,
}

impl RecentCommits {
    pub(crate) fn new() -> Self {
        Self { opened_at: Instant::now(), committed_at: Mutex::default() }
    }

    /// Notes that chunks of these files are about to be recorded, perhaps their last ones.
    pub(crate) fn note_commit(&self, files: impl Iterator<Item = FileId>) {
        let now = Instant::now();
        let mut committed_at = self.lock();
        committed_at.retain(|_, at| now.saturating_duration_since(*at) < PROMPT_TIME);
        committed_at.extend(files.map(|file| (file, now)));
    }

    /// Returns the rest of the time for which the report of a file that was not read back yet waits for that.
    pub(crate) fn grace(&self, file: FileId) -> Option<Duration> {
        let since = self.lock().get(&file).copied().unwrap_or(self.opened_at);
        PROMPT_TIME.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, Instant>> {
        self.committed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
