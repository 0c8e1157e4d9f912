//! How far a download is, in words; and how fast, where that is not to be had from the engine.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use transfer::progress::{Snapshot, SourceLine, SourceState};
use wire::job::{JobInfo, JobState, WorkerState};

use crate::text;

/// How far it is: of what the engine knows, and else of what the job says. Before anybody knows how much there is, what is
/// waited for: a part of nothing says nothing.
pub(super) fn far(now: &Snapshot, job: Option<&JobInfo>) -> String {
    let known = (now.chunks_total, now.bytes_total);
    let (chunks, bytes) = match job {
        Some(job) if now.bytes_total == 0 => (job.chunks, job.size.unwrap_or(0)),
        _ => known,
    };
    if bytes == 0 {
        return job.map_or_else(String::new, awaited);
    }
    let percent = text::whole_percent(now.bytes_done, bytes);
    let words = format!("{} of {chunks} chunks, {percent} %, {}", now.chunks_done, text::rate(now.rate));
    match now.remaining {
        Some(left) => format!("{words}, {} left", text::left(left)),
        None => words,
    }
}

/// What a job waits for whose size is not known.
fn awaited(job: &JobInfo) -> String {
    if job.state == JobState::Scheduled && job.start_at > jiff::Timestamp::now() {
        format!("begins at {}", text::moment(job.start_at))
    } else {
        format!("waits for the first answer of {}", job.url.origin())
    }
}

/// Whether chunks are still to come from somebody who works on the job: then nobody is missed who has none at the moment,
/// also when the last chunk is fetched and not yet told of.
pub(super) fn comes(job: &JobInfo) -> bool {
    let works = |state| matches!(state, WorkerState::Fetching | WorkerState::Waiting);
    !matches!(job.state, JobState::Direct | JobState::Failed | JobState::Stopped)
        && (job.workers.is_empty() || job.workers.iter().any(|worker| works(worker.state)))
}

/// The sources that have a line of their own: beside the workers of a job, those about which there is something else to say.
pub(super) fn noteworthy<'a>(now: &'a Snapshot, job: Option<&'a JobInfo>) -> impl Iterator<Item = &'a SourceLine> {
    now.sources.iter().filter(move |source| {
        let works = job.is_some_and(|job| job.workers.iter().any(|worker| worker.server == source.server));
        !works || matches!(source.state, SourceState::Resting | SourceState::Dropped)
    })
}

/// How fast a job's chunks come. They come at once and then not for a while, as their workers have them: only over some
/// seconds that is a rate.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Over how long it is looked at.
    const WINDOW: Duration = Duration::from_secs(5);

    /// Puts in what the engine, which sees single requests, does not know.
    pub(super) fn correct(&mut self, snapshot: &mut Snapshot, now: Instant) {
        if snapshot.bytes_total == 0 {
            return;
        }
        self.seen.push_back((now, snapshot.bytes_done));
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= Self::WINDOW) {
            self.seen.pop_front();
        }
        let (since, before) = self.seen.front().copied().unwrap_or((now, snapshot.bytes_done));
        let millis = now.saturating_duration_since(since).as_millis();
        let fresh = u128::from(snapshot.bytes_done.saturating_sub(before));
        snapshot.rate = (fresh * 1000).checked_div(millis).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0);
        let left = snapshot.bytes_total.saturating_sub(snapshot.bytes_done).saturating_mul(1000);
        snapshot.remaining = left.checked_div(snapshot.rate).map(Duration::from_millis);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(state: &str, size: Option<u64>, start_at: &str) -> JobInfo {
        serde_json::from_value(json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "url": "https://example.org/x.bin", "name": "x.bin",
            "state": state, "size": size, "generation": 0, "connections": 1, "start_at": start_at,
            "created_at": "2026-01-01T00:00:00Z", "keep": false, "chunks": size.map_or(0, |size| size >> 20),
            "fetched": 0, "workers": [], "askers": 1,
        }))
        .unwrap()
    }

    fn taken(chunks: u32, total: u32) -> Snapshot {
        let bytes = |chunks| u64::from(chunks) << 20;
        let (bytes_done, bytes_total) = (bytes(chunks), bytes(total));
        Snapshot {
            chunks_done: chunks,
            chunks_total: total,
            bytes_done,
            bytes_total,
            rate: 1 << 20,
            ..Snapshot::default()
        }
    }

    #[test]
    fn nothing_is_ever_a_part_of_nothing() {
        let past = "2026-01-01T00:00:00Z";
        let running = job("running", Some(24 << 20), past);
        assert_eq!(far(&Snapshot::default(), Some(&running)), "0 of 24 chunks, 0 %, 0 B/s");
        let asking = "waits for the first answer of https://example.org";
        assert_eq!(far(&Snapshot::default(), Some(&job("running", None, past))), asking);
        assert_eq!(far(&Snapshot::default(), Some(&job("scheduled", None, past))), asking);
        let later = far(&Snapshot::default(), Some(&job("scheduled", None, "2999-01-01T00:00:00Z")));
        assert!(later.starts_with("begins at 2") && !later.contains('%'), "{later}");
    }

    #[test]
    fn what_the_engine_has_counts_before_what_the_job_says() {
        let running = job("running", Some(24 << 20), "2026-01-01T00:00:00Z");
        let now = Snapshot { remaining: Some(Duration::from_secs(17)), ..taken(6, 24) };
        assert_eq!(far(&now, Some(&running)), "6 of 24 chunks, 25 %, 1.0 MiB/s, 18s left");
        assert_eq!(far(&taken(24, 24), None), "24 of 24 chunks, 100 %, 1.0 MiB/s");
    }
    #[test]
    fn chunks_that_come_by_fits_and_starts_have_a_rate() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let at = |pace: &mut Pace, tenths: u64, chunks| {
            let mut now = Snapshot { rate: 0, ..taken(chunks, 100) };
            pace.correct(&mut now, begun + Duration::from_millis(tenths * 100));
            (now.rate >> 20, now.remaining.map(|left| left.as_secs()))
        };
        // What was there before says nothing of the rate.
        assert_eq!(at(&mut pace, 0, 40), (0, None));
        let each: Vec<_> =
            (1..=100).map(|tenths| at(&mut pace, tenths, 40 + 2 * u32::try_from(tenths / 20).unwrap())).collect();
        assert!(each.iter().skip(40).all(|(rate, left)| *rate <= 1 && left.is_some()), "{each:?}");
        assert_eq!(at(&mut pace, 200, 50), (0, None), "nothing came for a while");
        assert!(pace.seen.len() <= 52, "{}", pace.seen.len());
    }

    #[test]
    fn nobody_is_missed_while_somebody_works() {
        let mut running = job("running", Some(24 << 20), "2026-01-01T00:00:00Z");
        assert!(comes(&running), "they are on their way");
        let worker = |state: &str| {
            serde_json::from_value(json!({
                "server": "fs-1", "zone": "eu", "state": state, "spans": [], "chunks": 1, "bytes": 1, "rate": 1,
            }))
            .unwrap()
        };
        running.workers = vec![worker("gone"), worker("fetching")];
        assert!(comes(&running));
        running.workers = vec![worker("gone"), worker("excluded")];
        assert!(!comes(&running));
        assert!(!comes(&job("stopped", Some(1), "2026-01-01T00:00:00Z")));
    }
}
