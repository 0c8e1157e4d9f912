//! The state of a download in one line, and the rate of a job's chunks.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use transfer::progress::{HashProgress, Snapshot, SourceActivity, SourceProgress};
use wire::{
    ServerId,
    grammar::counted,
    job::{JobInfo, JobState, WorkerState},
};

use super::job_lines;
use crate::text;

/// Describes the progress: the engine's, else the job's. While the size is unknown, it describes the reason for waiting instead of
/// a percentage.
pub(super) fn summary(now: &Snapshot, job: Option<&JobInfo>) -> String {
    let known = (now.chunks_total, now.bytes_total);
    let (chunks, bytes) = match job {
        Some(job) if now.bytes_total == 0 => (job.chunks, job.size.unwrap_or(0)),
        _ => known,
    };
    if bytes == 0 {
        return job.map_or_else(String::new, reason_for_waiting);
    }
    let percent = text::whole_percent(now.bytes_done, bytes);
    let line = format!("{} of {}, {percent} %, {}", now.chunks_done, counted(chunks, "chunk"), text::rate(now.rate));
    match now.remaining {
        Some(remaining) => format!("{line}, {} left", text::remaining(remaining)),
        None => line,
    }
}

/// Describes the reason why a job has no size yet.
fn reason_for_waiting(job: &JobInfo) -> String {
    if job.state == JobState::Scheduled && job.start_at > job.created_at && job.next_try.is_none() {
        format!("starts at {}", text::timestamp(job.start_at))
    } else {
        format!("waiting for {} to answer", job.url.origin())
    }
}

/// Returns true if workers may still bring chunks. Then a lack of sources is no reason for a notice, also when the last chunk is
/// fetched and not yet reported.
pub(super) fn expects_chunks(job: &JobInfo) -> bool {
    let works = |state| matches!(state, WorkerState::Fetching | WorkerState::Waiting);
    !matches!(job.state, JobState::Direct | JobState::Failed | JobState::Stopped)
        && (job.workers.is_empty() || job.workers.iter().any(|worker| works(worker.state)))
}

/// Describes the hashing of what an earlier run left.
pub(super) fn hashing(hashed: &HashProgress) -> String {
    let (done, total) = (hashed.bytes_done, hashed.bytes_total);
    format!("verifying {} downloaded earlier, {} % of it", text::size(total), text::whole_percent(done, total))
}

/// Line about one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerRow {
    pub(super) server: ServerId,
    pub(super) text: String,
}

/// Returns one line per server: as a worker of the job if it is one, else as a source. A worker that fails as a source says so.
pub(super) fn server_rows(now: &Snapshot, job: Option<&JobInfo>) -> Vec<ServerRow> {
    let workers = job.map(|job| job.workers.as_slice()).unwrap_or_default();
    let sources = shown_sources(now, job).filter(|source| workers.iter().all(|worker| worker.server != source.server));
    let sources = sources.map(|source| ServerRow {
        server: source.server.clone(),
        text: format!(
            "  {:<18} {:<10} {:>10} {:>12}  {}",
            source.server,
            source.zone,
            text::size(source.bytes),
            text::rate(source.rate),
            activity(source.state)
        ),
    });
    let workers = workers.iter().map(|worker| {
        let source = now.sources.iter().find(|source| source.server == worker.server);
        let fails = source.filter(|source| matches!(source.state, SourceActivity::Resting | SourceActivity::Dropped));
        // Both do not fit into 80 columns.
        let text = match fails {
            Some(source) => job_lines::worker_with(worker, activity(source.state)),
            None => job_lines::worker(worker),
        };
        ServerRow { server: worker.server.clone(), text: format!("  {text}") }
    });
    sources.chain(workers).collect()
}

/// Returns the sources that have their own line: those that are no workers of the job, and the failing ones.
pub(super) fn shown_sources<'a>(
    now: &'a Snapshot,
    job: Option<&'a JobInfo>,
) -> impl Iterator<Item = &'a SourceProgress> {
    now.sources.iter().filter(move |source| {
        let works = job.is_some_and(|job| job.workers.iter().any(|worker| worker.server == source.server));
        !works || matches!(source.state, SourceActivity::Resting | SourceActivity::Dropped)
    })
}

/// Names the activity of a source.
pub(super) const fn activity(state: SourceActivity) -> &'static str {
    match state {
        SourceActivity::Idle => "idle",
        SourceActivity::Active => "active",
        SourceActivity::Resting => "resting",
        SourceActivity::Dropped => "dropped",
    }
}

/// Rate of a job's chunks. They arrive in bursts, when workers complete them, so that the rate is a mean over some seconds.
#[derive(Debug, Default)]
pub(super) struct JobRate {
    seen: VecDeque<(Instant, u64)>,
}

impl JobRate {
    /// Time over which the mean is taken.
    const RATE_WINDOW: Duration = Duration::from_secs(5);

    /// Replaces the engine's rate, which covers single requests.
    pub(super) fn correct(&mut self, snapshot: &mut Snapshot, now: Instant) {
        if snapshot.bytes_total == 0 {
            return;
        }
        self.seen.push_back((now, snapshot.bytes_done));
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= Self::RATE_WINDOW) {
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
    fn no_percentage_is_shown_while_the_size_is_unknown() {
        let past = "2026-01-01T00:00:00Z";
        let running = job("running", Some(24 << 20), past);
        assert_eq!(summary(&Snapshot::default(), Some(&running)), "0 of 24 chunks, 0 %, 0 B/s");
        let asking = "waiting for https://example.org to answer";
        assert_eq!(summary(&Snapshot::default(), Some(&job("running", None, past))), asking);
        assert_eq!(summary(&Snapshot::default(), Some(&job("scheduled", None, past))), asking);
        let later = summary(&Snapshot::default(), Some(&job("scheduled", None, "2999-01-01T00:00:00Z")));
        assert!(later.starts_with("starts at 2") && !later.contains('%'), "{later}");
    }

    #[test]
    fn the_engines_numbers_come_before_the_jobs() {
        let running = job("running", Some(24 << 20), "2026-01-01T00:00:00Z");
        let now = Snapshot { remaining: Some(Duration::from_secs(17)), ..taken(6, 24) };
        assert_eq!(summary(&now, Some(&running)), "6 of 24 chunks, 25 %, 1.0 MiB/s, 18s left");
        assert_eq!(summary(&taken(24, 24), None), "24 of 24 chunks, 100 %, 1.0 MiB/s");
    }

    #[test]
    fn a_server_has_one_line_that_fits_a_terminal() {
        let mut running = job("running", Some(24 << 20), "2026-01-01T00:00:00Z");
        let worker = |server: &str, state: &str| {
            serde_json::from_value(json!({
                "server": server, "zone": "eu-central", "state": state, "spans": [], "chunks": 1234, "bytes": 1_000_000_000_u64,
                "rate": 999_999_999,
            }))
            .unwrap()
        };
        running.workers = vec![worker("fs-0123456789abcde", "fetching"), worker("fs-2", "excluded")];
        let source = |server: &str, state| SourceProgress {
            server: server.parse().unwrap(),
            zone: "eu-central".parse().unwrap(),
            bytes: 1 << 40,
            rate: 999_999_999,
            state,
        };
        let sources = vec![
            source("fs-0123456789abcde", SourceActivity::Active),
            source("fs-2", SourceActivity::Resting),
            source("fs-3", SourceActivity::Active),
        ];
        let rows = server_rows(&Snapshot { sources, ..Snapshot::default() }, Some(&running));
        let mut servers: Vec<&str> = rows.iter().map(|row| row.server.as_str()).collect();
        servers.sort_unstable();
        assert_eq!(servers, ["fs-0123456789abcde", "fs-2", "fs-3"]);
        assert!(rows.iter().all(|row| row.text.chars().count() <= 80 && !row.text.contains('%')), "{rows:?}");
        assert!(rows.iter().any(|row| row.text.ends_with("excluded, resting")), "{rows:?}");
    }

    #[test]
    fn chunks_that_arrive_in_bursts_have_a_rate() {
        let (mut rate, begun) = (JobRate::default(), Instant::now());
        let at = |rate: &mut JobRate, tenths: u64, chunks| {
            let mut now = Snapshot { rate: 0, ..taken(chunks, 100) };
            rate.correct(&mut now, begun + Duration::from_millis(tenths * 100));
            (now.rate >> 20, now.remaining.map(|left| left.as_secs()))
        };
        // Resumed chunks do not count.
        assert_eq!(at(&mut rate, 0, 40), (0, None));
        let each: Vec<_> =
            (1..=100).map(|tenths| at(&mut rate, tenths, 40 + 2 * u32::try_from(tenths / 20).unwrap())).collect();
        assert!(each.iter().skip(40).all(|(rate, left)| *rate <= 1 && left.is_some()), "{each:?}");
        assert_eq!(at(&mut rate, 200, 50), (0, None), "nothing arrived for a while");
        assert!(rate.seen.len() <= 52, "{}", rate.seen.len());
    }

    #[test]
    fn chunks_are_expected_while_a_worker_fetches() {
        let mut running = job("running", Some(24 << 20), "2026-01-01T00:00:00Z");
        assert!(expects_chunks(&running), "workers are about to join");
        let worker = |state: &str| {
            serde_json::from_value(json!({
                "server": "fs-1", "zone": "eu", "state": state, "spans": [], "chunks": 1, "bytes": 1, "rate": 1,
            }))
            .unwrap()
        };
        running.workers = vec![worker("gone"), worker("fetching")];
        assert!(expects_chunks(&running));
        running.workers = vec![worker("gone"), worker("excluded")];
        assert!(!expects_chunks(&running));
        assert!(!expects_chunks(&job("stopped", Some(1), "2026-01-01T00:00:00Z")));
    }
}
