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
    /// Nothing arrived: a proxy collects what the info-server sends.
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
    monitor.apply(first);
    loop {
        match events.next().await {
            Ok(None) => return Ok(StreamEnd::AfterEvents),
            Ok(Some(event)) => monitor.apply(event),
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
