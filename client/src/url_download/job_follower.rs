//! Connection to a job: its event stream, and the reports of the requester's progress.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use info_client::{InfoError, JobEvent, UserClient};
use rand::RngExt as _;
use tokio::{sync::watch, task::JoinSet, time};
use transfer::progress::Progress;
use wire::{
    Digest, Zone,
    job::{JobInfo, RequesterProgress},
};

use super::job_view::JobView;

/// Time between two progress reports. The reports also keep the job alive.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the first event of a stream, which the info-server sends at once. After it, a proxy holds the stream back.
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time between two events of a stream that brings one each second. After it, a proxy holds the stream back.
const MAX_EVENT_GAP: Duration = Duration::from_secs(2);
/// Time for which a job is polled before a stream is tried again.
const POLLING_PERIOD: Duration = Duration::from_secs(60);
const MIN_POLL_PAUSE: Duration = Duration::from_millis(300);
/// Pause between two polls in times of a poll's duration: a large job costs its bytes each time.
const POLL_PAUSE_FACTOR: u32 = 10;
const MIN_RECONNECT_PAUSE: Duration = Duration::from_millis(200);
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(5);
/// Time for which the info-server counts as connected after a message. It sends one at least every 10 s.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for hashing the existing part before an empty progress is reported. Workers fetch every chunk for a requester that has
/// none.
const HASHING_TIMEOUT: Duration = Duration::from_secs(20);

/// Tasks that follow a job until this is dropped.
pub(super) struct JobFollower {
    pub(super) monitor: Arc<JobMonitor>,
    _tasks: JoinSet<()>,
}

/// Shared state of a followed job.
pub(super) struct JobMonitor {
    pub(super) info: UserClient,
    pub(super) zone: Option<Zone>,
    view: Mutex<JobView>,
    /// Number of changes.
    changes: watch::Sender<u64>,
    last_contact: Mutex<Option<Instant>>,
    /// Permanent refusal: the job does not exist, or the user may not see it.
    refusal: Mutex<Option<String>>,
    /// SHA-256 of the whole file, to be reported.
    digest: Mutex<Option<Digest>>,
}

impl JobFollower {
    pub(super) fn start(info: UserClient, zone: Option<Zone>, job: JobInfo, progress: Progress) -> Self {
        let monitor = Arc::new(JobMonitor {
            info,
            zone,
            view: Mutex::new(JobView::new(job)),
            changes: watch::Sender::new(0),
            last_contact: Mutex::new(Some(Instant::now())),
            refusal: Mutex::new(None),
            digest: Mutex::new(None),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_events(Arc::clone(&monitor)));
        tasks.spawn(report_progress(Arc::clone(&monitor), progress));
        Self { monitor, _tasks: tasks }
    }
}

/// Locks a value. A panicked thread leaves plain data, which is checked when it is used.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JobMonitor {
    /// Returns the current view.
    pub(super) fn view(&self) -> MutexGuard<'_, JobView> {
        lock(&self.view)
    }

    /// Changes the view and notifies all waiting tasks.
    pub(super) fn update(&self, change: impl FnOnce(&mut JobView)) {
        change(&mut self.view());
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Returns a receiver that is notified of changes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns the refusal that ended the connection.
    pub(super) fn refusal(&self) -> Option<String> {
        lock(&self.refusal).clone()
    }

    /// Returns true if a message of the info-server arrived lately.
    pub(super) fn is_connected(&self) -> bool {
        lock(&self.last_contact).is_some_and(|at| at.elapsed() < CONTACT_TIMEOUT)
    }

    /// Sets the SHA-256 of the whole file that the next reports contain.
    pub(super) fn report_digest(&self, digest: Option<Digest>) {
        *lock(&self.digest) = digest;
    }

    fn apply(&self, event: JobEvent) {
        match event {
            JobEvent::Job(job) => self.update(|view| view.apply_job(*job)),
            JobEvent::Chunks(chunks) => self.update(|view| view.apply_chunks(chunks)),
            JobEvent::Alive => {}
        }
        self.record_contact();
    }

    fn record_contact(&self) {
        *lock(&self.last_contact) = Some(Instant::now());
    }

    fn record_silence(&self) {
        *lock(&self.last_contact) = None;
    }

    /// Records a permanent refusal and returns true; other errors may pass.
    fn record_refusal(&self, error: &InfoError) -> bool {
        let is_permanent = matches!(error.status(), Some(401 | 403 | 404 | 410));
        if is_permanent {
            *lock(&self.refusal) = Some(error.to_string());
            self.changes.send_modify(|changes| *changes += 1);
        }
        is_permanent
    }
}

/// Keeps the event stream open until the job is refused.
async fn follow_events(monitor: Arc<JobMonitor>) {
    let mut pause = MIN_RECONNECT_PAUSE;
    loop {
        let followed = match read_stream(&monitor).await {
            Ok(StreamEnd::HeldBack) => poll(&monitor).await.map(|()| StreamEnd::AfterEvents),
            followed => followed,
        };
        match followed {
            Ok(StreamEnd::AfterEvents) => pause = MIN_RECONNECT_PAUSE,
            Ok(StreamEnd::AtOnce | StreamEnd::HeldBack) => {}
            Err(error) if monitor.record_refusal(&error) => return,
            Err(error) => tracing::debug!(%error, "cannot open the event stream of a job"),
        }
        // Spreads the clients out when the info-server comes back.
        let jitter = rand::rng().random_range(0.5..1.0);
        time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(MAX_RECONNECT_PAUSE);
    }
}

/// End of an event stream.
enum StreamEnd {
    /// Stream that brought events and ended or broke off.
    AfterEvents,
    /// Stream that ended without an event.
    AtOnce,
    /// Nothing arrived, or nothing more: a proxy collects what the info-server sends.
    HeldBack,
}

/// Reads one event stream to its end.
async fn read_stream(monitor: &JobMonitor) -> Result<StreamEnd, InfoError> {
    let id = monitor.view().job.id;
    let opening = async {
        let mut events = monitor.info.job_events(id).await?;
        let first = events.next().await?;
        Ok((events, first))
    };
    let Ok(opened) = time::timeout(FIRST_EVENT_TIMEOUT, opening).await else {
        tracing::debug!("the event stream of a job brings nothing: polling");
        return Ok(StreamEnd::HeldBack);
    };
    let (mut events, first) = opened?;
    let Some(first) = first else { return Ok(StreamEnd::AtOnce) };
    // Servers of earlier versions may be silent for longer.
    let mut max_gap = Duration::MAX;
    let mut apply = |event: JobEvent| {
        if event == JobEvent::Alive {
            max_gap = MAX_EVENT_GAP;
        }
        monitor.apply(event);
        max_gap
    };
    let mut gap = apply(first);
    loop {
        let Ok(next) = time::timeout(gap, events.next()).await else {
            tracing::debug!("the event stream of a job brings nothing more: polling");
            return Ok(StreamEnd::HeldBack);
        };
        match next {
            Ok(None) => return Ok(StreamEnd::AfterEvents),
            Ok(Some(event)) => gap = apply(event),
            Err(error) => {
                tracing::debug!(%error, "the event stream of a job broke off");
                return Ok(StreamEnd::AfterEvents);
            }
        }
    }
}

/// Polls the job for a while.
async fn poll(monitor: &JobMonitor) -> Result<(), InfoError> {
    let (id, until) = (monitor.view().job.id, Instant::now() + POLLING_PERIOD);
    while Instant::now() < until {
        let asked = Instant::now();
        let mut events = monitor.info.present_job_events(id).await?;
        while let Some(event) = events.next().await? {
            monitor.apply(event);
        }
        time::sleep((asked.elapsed() * POLL_PAUSE_FACTOR).max(MIN_POLL_PAUSE)).await;
    }
    Ok(())
}

/// Reports the chunks that the requester has, about every second. Without reports the job ends.
async fn report_progress(monitor: Arc<JobMonitor>, progress: Progress) {
    let began = Instant::now();
    let mut ticks = time::interval(REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let id = monitor.view().job.id;
        let sha256 = *lock(&monitor.digest);
        let now = progress.snapshot();
        if now.chunks_total == 0 && began.elapsed() < HASHING_TIMEOUT {
            continue;
        }
        let report = RequesterProgress { runs: now.runs, sha256 };
        match monitor.info.report_progress(id, &report).await {
            // Only events count as a contact: without them nothing goes on.
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot report the progress of a job's download");
                if error.status().is_none() {
                    monitor.record_silence();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::{Body, Bytes},
        extract::RawQuery,
        routing::{get, put},
    };
    use futures::{StreamExt as _, stream};
    use serde_json::json;

    use super::*;

    fn job(fetched: u32) -> serde_json::Value {
        json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "url": "https://example.org/x.bin", "name": "x.bin",
            "state": "running", "file": "01890a5d-ac96-774b-bcce-b302099a8058", "size": 4 << 20, "chunk_size": 1 << 20,
            "generation": 1, "connections": 1, "start_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
            "keep": false, "chunks": 4, "fetched": fetched, "workers": [], "askers": 1,
        })
    }

    /// Starts an info-server behind a proxy that passes on the first block of an open stream and then nothing.
    async fn held_back() -> String {
        let events = |RawQuery(query): RawQuery| async move {
            let is_once = query.is_some_and(|query| query.contains("once=true"));
            let fetched = u32::from(is_once);
            let text = format!("event: job\ndata: {}\n\nevent: alive\ndata: 1\n\n", job(fetched));
            let block = stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
            if is_once { Body::from_stream(block) } else { Body::from_stream(block.chain(stream::pending())) }
        };
        let router = Router::new().route("/v1/jobs/{id}/events", get(events));
        let router = router.route("/v1/jobs/{id}/progress", put(async || "{}"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn a_job_is_polled_when_a_proxy_holds_its_stream_back_after_the_first_block() {
        let http = transfer::source::client_builder().build().unwrap();
        let info = UserClient::new(held_back().await.parse().unwrap(), http, None);
        let (progress, _notices) = Progress::new();
        let begun = Instant::now();
        let started = serde_json::from_value(job(0)).unwrap();
        let follower = JobFollower::start(info, None, started, progress);
        let mut changes = follower.monitor.changes();
        let polled = async {
            while follower.monitor.view().job.fetched == 0 {
                changes.changed().await.unwrap();
            }
        };
        time::timeout(Duration::from_secs(20), polled).await.expect("the job is polled");
        assert!(begun.elapsed() < MAX_EVENT_GAP * 2, "{:?}", begun.elapsed());
    }
}
