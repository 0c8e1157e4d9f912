//! Chunks to verify because a reader received other bytes. Such a report is not trusted: the chunk is read again. Bounded, as
//! it comes from outside: so many chunks wait, and each is verified once within a time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use wire::FileId;

/// Time within which a chunk is verified once, however often it is reported.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Chunks that wait.
const MAX_WAITING: usize = 256;
/// Chunks whose last report is remembered.
const MAX_REMEMBERED: usize = 16_384;

/// A chunk that was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportedChunk {
    /// The file.
    pub file: FileId,
    /// Number of the chunk in the file.
    pub chunk: u32,
}

/// Result of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportReceipt {
    /// The chunk will be verified.
    Queued,
    /// Chunk that waits already, or was verified a moment ago.
    Recent,
    /// Refusal: the queue of chunks is full.
    Busy,
}

/// Reported chunks.
#[derive(Debug, Default)]
pub struct ChunkChecks {
    reports: Mutex<Reports>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Reports {
    waiting: VecDeque<ReportedChunk>,
    reported_at: HashMap<ReportedChunk, Instant>,
}

impl ChunkChecks {
    /// Adds a chunk that was reported at `now`.
    pub fn report(&self, chunk: ReportedChunk, now: Instant) -> ReportReceipt {
        let receipt = self.lock().add(chunk, now);
        if receipt == ReportReceipt::Queued {
            self.added.notify_one();
        }
        receipt
    }

    /// Waits for the next chunk that is to be verified.
    pub async fn next(&self) -> ReportedChunk {
        loop {
            let next = self.lock().waiting.pop_front();
            match next {
                Some(chunk) => return chunk,
                None => self.added.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports {
    fn add(&mut self, chunk: ReportedChunk, now: Instant) -> ReportReceipt {
        if self.waiting.contains(&chunk) || self.reported_at.get(&chunk).is_some_and(|at| is_recent(*at, now)) {
            return ReportReceipt::Recent;
        }
        if self.reported_at.len() >= MAX_REMEMBERED {
            self.reported_at.retain(|_, at| is_recent(*at, now));
        }
        if self.waiting.len() >= MAX_WAITING || self.reported_at.len() >= MAX_REMEMBERED {
            return ReportReceipt::Busy;
        }
        self.reported_at.insert(chunk, now);
        self.waiting.push_back(chunk);
        ReportReceipt::Queued
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < CHECK_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_verified_once_a_minute_and_few_chunks_wait() {
        let (mut reports, now, file) = (Reports::default(), Instant::now(), FileId::new());
        let chunk = |chunk| ReportedChunk { file, chunk };
        assert_eq!(reports.add(chunk(0), now), ReportReceipt::Queued);
        assert_eq!(reports.add(chunk(0), now + 2 * CHECK_INTERVAL), ReportReceipt::Recent, "it waits still");
        reports.waiting.clear();
        assert_eq!(reports.add(chunk(0), now + CHECK_INTERVAL / 2), ReportReceipt::Recent);
        assert_eq!(reports.add(chunk(0), now + CHECK_INTERVAL), ReportReceipt::Queued);
        for n in 1..u32::try_from(MAX_WAITING).unwrap() {
            assert_eq!(reports.add(chunk(n), now), ReportReceipt::Queued, "{n}");
        }
        assert_eq!(reports.add(chunk(999_999), now), ReportReceipt::Busy);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let (mut reports, now, file) = (Reports::default(), Instant::now(), FileId::new());
        let chunk = |chunk| ReportedChunk { file, chunk };
        for n in 0..u32::try_from(MAX_REMEMBERED).unwrap() {
            reports.add(chunk(n), now);
            reports.waiting.clear();
        }
        assert_eq!(reports.add(chunk(u32::MAX), now), ReportReceipt::Busy);
        assert_eq!(reports.add(chunk(u32::MAX), now + CHECK_INTERVAL), ReportReceipt::Queued);
        assert_eq!(reports.reported_at.len(), 1);
    }
}
