//! Shows a transfer, file or job live, also one that another terminal or another person started.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::bail;
use info_client::{InfoError, UserClient};
use transfer::progress::{Snapshot, SourceActivity, SourceProgress};
use wire::{
    ChunkLayout, FileId, JobId, ServerId,
    catalogue::{FileDetails, FileState, ReplicaStatus},
    job::{JobInfo, JobState},
};

use super::jobs;
use crate::{
    cli::Watch,
    context::Context,
    exit::{Exit, UsageError},
    lookup::{self, Scope},
    missing_chunks,
    output::{print, print_json},
    progress::{self, Display, RemoteDisplay},
    text,
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `watch`. Ends when the file is replicated or the job has ended.
///
/// # Errors
/// When there is no such file or job, or it ends in failure.
pub(super) async fn run(context: &Context, watch: &Watch) -> anyhow::Result<Exit> {
    let work = async {
        let info = context.info_server()?;
        match find(&info, watch).await? {
            Entry::File(file) => watch_file(context, &info, file).await,
            Entry::Job(job) => watch_job(context, &info, job).await,
        }
    };
    context.cancel.run_until_cancelled(work).await.unwrap_or(Ok(Exit::Interrupted))
}

enum Entry {
    File(FileId),
    Job(JobId),
}

/// Finds the file or, if there is none, the job that is meant.
async fn find(info: &UserClient, watch: &Watch) -> anyhow::Result<Entry> {
    let file = lookup::file(info, &watch.entry, Scope::Any).await;
    let is_known = match &file {
        Ok(id) => match info.file(*id, None, false).await {
            Ok(_) => true,
            Err(error) if error.status() == Some(404) => false,
            Err(error) => return Err(error.into()),
        },
        Err(error) if error.is::<UsageError>() => return Ok(Entry::File(file?)),
        Err(_) => false,
    };
    match (file, lookup::job(info, &watch.entry).await) {
        (Ok(file), _) if is_known => Ok(Entry::File(file)),
        (_, Ok(job)) => Ok(Entry::Job(job)),
        // A list of jobs of that name says more than that no file has it.
        (Err(_), Err(error)) if error.is::<UsageError>() => Err(error),
        (Err(error), Err(_)) => Err(error),
        (Ok(_), Err(error)) => Err(error),
    }
}

async fn watch_job(context: &Context, info: &UserClient, id: JobId) -> anyhow::Result<Exit> {
    let way = Display::choose(context.common.json, false);
    let (mut display, mut outage) = (RemoteDisplay::new(way), Outage::new(way));
    let mut shown = None;
    loop {
        let job = match info.job(id).await {
            Err(error) if outage.passes(&error) => {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            job => job.map_err(|error| jobs::explain(id, error))?,
        };
        outage.end();
        if context.common.json {
            if shown.as_ref() != Some(&job) {
                print_json(&serde_json::json!({ "event": "job", "job": job }));
            }
        } else {
            display.show(&job.name, &job_snapshot(&job), Some(&job));
        }
        let reason = job.reason.map(|reason| format!(": {}", reason.sentence())).unwrap_or_default();
        match job.state {
            JobState::Scheduled | JobState::Running | JobState::Checking => {}
            JobState::Done => {
                drop(display);
                if !context.common.json {
                    print(&format!("{}: done, {} fetched", job.name, text::size(job.size.unwrap_or(0))));
                }
                return Ok(Exit::Done);
            }
            state => {
                drop(display);
                bail!("job {id} is {}{reason}", state.as_str());
            }
        }
        shown = Some(job);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Time without an answer of the info-server. It passes, as when the server restarts; a refusal is final.
#[derive(Debug)]
struct Outage {
    display: Display,
    is_shown: bool,
}

impl Outage {
    const fn new(display: Display) -> Self {
        Self { display, is_shown: false }
    }

    /// Returns true if the next poll may succeed, and prints the failure once.
    fn passes(&mut self, error: &InfoError) -> bool {
        if error.http_status().is_some_and(|status| status < 500) {
            return false;
        }
        if !std::mem::replace(&mut self.is_shown, true) {
            progress::note(self.display, "waiting", &format!("{error}; trying again until it answers"));
        }
        true
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            progress::note(self.display, "note", "The info-server answers again");
        }
    }
}

/// Returns the progress of a job's workers as that of a download.
fn job_snapshot(job: &JobInfo) -> Snapshot {
    let (size, chunk_size) = (job.size.unwrap_or(0), job.chunk_size.unwrap_or(0));
    let rate = job.workers.iter().map(|worker| worker.rate).sum();
    let bytes_done = u64::from(job.fetched).saturating_mul(chunk_size).min(size);
    let remaining = (size - bytes_done).checked_div(rate).map(Duration::from_secs);
    let (chunks_done, chunks_total) = (job.fetched, job.chunks);
    Snapshot { chunks_done, chunks_total, bytes_done, bytes_total: size, rate, remaining, ..Snapshot::default() }
}

async fn watch_file(context: &Context, info: &UserClient, id: FileId) -> anyhow::Result<Exit> {
    let way = Display::choose(context.common.json, false);
    let (mut display, mut outage) = (RemoteDisplay::new(way), Outage::new(way));
    let (mut rates, mut shown, mut missing) = (Rates::default(), None, Vec::new());
    loop {
        let (details, replicas) = match (info.file(id, None, false).await, info.replicas(id).await) {
            (Ok(details), Ok(replicas)) => (details, replicas),
            (Err(error), _) | (_, Err(error)) if error.status() == Some(404) => {
                drop(display);
                bail!("{id} was removed, or its upload was given up");
            }
            (Err(error), _) | (_, Err(error)) if outage.passes(&error) => {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        outage.end();
        let before = std::mem::replace(&mut missing, missing_chunks::lines(details.missing.as_ref()));
        for line in missing.iter().filter(|line| !before.contains(line)) {
            progress::note(way, "incomplete", &format!("{}: {line}", details.summary.name));
        }
        if context.common.json {
            if shown.as_ref() != Some(&replicas) {
                let state = details.summary.state;
                print_json(&serde_json::json!({ "event": "replicas", "state": state, "status": replicas }));
            }
        } else {
            display.show(&details.summary.name, &rates.snapshot(&details, &replicas)?, None);
        }
        if details.summary.state == FileState::Available && replicas.replicated {
            drop(display);
            if !context.common.json {
                print(&format!("{}: every wanted replica is complete and verified", details.summary.name));
            }
            return Ok(Exit::Done);
        }
        shown = Some(replicas);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Bytes of each server at the last look, from which its rate follows.
#[derive(Debug, Default)]
struct Rates {
    seen: BTreeMap<ServerId, u64>,
    at: Option<Instant>,
}

impl Rates {
    /// Returns the progress of a file's replicas as that of a download: done when all wanted replicas are.
    fn snapshot(&mut self, details: &FileDetails, replicas: &ReplicaStatus) -> anyhow::Result<Snapshot> {
        let layout = ChunkLayout::checked(details.summary.size, details.summary.chunk_size)?;
        let bytes = |chunks: u32| u64::from(chunks).saturating_mul(layout.chunk_size()).min(layout.size());
        let (now, before) = (Instant::now(), self.at);
        let millis = before.map(|before| u64::try_from(now.duration_since(before).as_millis()).unwrap_or(u64::MAX));
        self.at = Some(now);
        let mut total = Snapshot::default();
        for replica in replicas.replicas.iter().filter(|replica| replica.assigned || replica.verified > 0) {
            let done = bytes(replica.verified);
            let fresh = self.seen.insert(replica.server.clone(), done).map_or(0, |before| done.saturating_sub(before));
            let rate = millis.and_then(|millis| fresh.saturating_mul(1000).checked_div(millis)).unwrap_or(0);
            let state = match (replica.live, fresh > 0) {
                (false, _) => SourceActivity::Resting,
                (true, true) => SourceActivity::Active,
                (true, false) => SourceActivity::Idle,
            };
            let (server, zone) = (replica.server.clone(), replica.zone.clone());
            total.sources.push(SourceProgress { server, zone, bytes: done, rate, state });
            if replica.assigned {
                total.chunks_done += replica.verified;
                total.chunks_total += layout.count();
                total.bytes_done += done;
                total.bytes_total += layout.size();
                total.rate += rate;
            }
        }
        total.remaining = (total.bytes_total - total.bytes_done).checked_div(total.rate).map(Duration::from_secs);
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_done_when_all_servers_that_are_to_hold_it_have_it() {
        let id = "01a22865-ac96-774b-bcce-b302099a8057";
        let details: FileDetails = serde_json::from_value(json!({
            "id": id, "name": "x", "size": 4 << 20, "sha256": null, "chunk_size": 1 << 20, "state": "available",
            "created_at": "2026-01-01T00:00:00Z", "live_replicas": 1, "root": null, "locations": [],
        }))
        .unwrap();
        let replica = |server: &str, verified: u32, assigned: bool| json!({ "server": server, "zone": "eu", "live": true, "assigned": assigned, "draining": false, "verified": verified });
        let status = |replicas: serde_json::Value| -> ReplicaStatus {
            serde_json::from_value(json!({
                "file": id, "chunks": 4, "replicated": false, "zones": {}, "replicas": replicas,
            }))
            .unwrap()
        };
        let mut rates = Rates::default();
        let first = status(json!([replica("a", 4, true), replica("b", 1, true), replica("c", 2, false)]));
        let now = rates.snapshot(&details, &first).unwrap();
        assert_eq!((now.chunks_done, now.chunks_total, now.bytes_done, now.bytes_total), (5, 8, 5 << 20, 8 << 20));
        assert_eq!((now.sources.len(), now.rate), (3, 0));
        std::thread::sleep(Duration::from_millis(2));
        let now = rates.snapshot(&details, &status(json!([replica("a", 4, true), replica("b", 3, true)]))).unwrap();
        assert!(now.rate > 0 && now.sources[1].rate == now.rate && now.sources[0].rate == 0, "{now:?}");
        assert_eq!(now.sources[1].state, SourceActivity::Active);
    }

    #[test]
    fn a_job_is_done_when_its_chunks_are_fetched() {
        let job: JobInfo = serde_json::from_value(json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "url": "https://example.org/x.bin", "name": "x.bin",
            "state": "running", "size": (3 << 20) + 1, "chunk_size": 1 << 20, "generation": 0, "connections": 1,
            "start_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z", "keep": false, "chunks": 4, "fetched": 4,
            "workers": [], "askers": 1,
        }))
        .unwrap();
        let now = job_snapshot(&job);
        assert_eq!((now.bytes_done, now.bytes_total, now.remaining), ((3 << 20) + 1, (3 << 20) + 1, None));
    }
}
