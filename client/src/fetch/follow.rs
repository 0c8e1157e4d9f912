//! Follows a job: keeps its stream open, tells what one has, and makes both known to whoever looks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tokio::{sync::watch, task::JoinSet, time};
use transfer::{
    info::{InfoError, InfoServer, JobEvent},
    progress::Progress,
};
use wire::{
    Digest, Zone,
    job::{AskerProgress, JobInfo},
};

use super::known::Known;

/// How often one tells what one has. It also is what keeps the job alive.
const TELL: Duration = Duration::from_secs(1);
/// The first pause after a stream broke, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long after its last word the info-server counts as there; it says something every 10 s.
const HEARD: Duration = Duration::from_secs(15);
/// How long one may be busy hashing what is there before one tells that one has nothing yet. Whoever has nothing is
/// fetched everything for.
const HASHING: Duration = Duration::from_secs(20);

/// A job that is followed until this is dropped.
pub(super) struct Follow {
    pub(super) shared: Arc<Shared>,
    // Dropped with it: nobody follows any more.
    _tasks: JoinSet<()>,
}

/// What is known of the job, and by whom it is asked.
pub(super) struct Shared {
    pub(super) info: InfoServer,
    pub(super) zone: Option<Zone>,
    known: Mutex<Known>,
    /// Counts what changed.
    changes: watch::Sender<u64>,
    heard: Mutex<Option<Instant>>,
    /// Why there is no use in following it any more: there is no such job, or one may not see it.
    gone: Mutex<Option<String>>,
    /// What the whole was found to be.
    found: Mutex<Option<Digest>>,
}

impl Follow {
    pub(super) fn start(info: InfoServer, zone: Option<Zone>, job: JobInfo, progress: Progress) -> Self {
        let shared = Arc::new(Shared {
            info,
            zone,
            known: Mutex::new(Known::new(job)),
            changes: watch::Sender::new(0),
            heard: Mutex::new(Some(Instant::now())),
            gone: Mutex::new(None),
            found: Mutex::new(None),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(Arc::clone(&shared)));
        tasks.spawn(tell(Arc::clone(&shared), progress));
        Self { shared, _tasks: tasks }
    }
}

/// Whatever a panicking thread left is plain data, and checked when it is used.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What is known now.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Changes what is known, and lets everybody look again.
    pub(super) fn learn(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known());
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// To wait for changes with.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Why the job cannot be followed any more, if so.
    pub(super) fn gone(&self) -> Option<String> {
        lock(&self.gone).clone()
    }

    /// Whether the info-server said something lately.
    pub(super) fn hears(&self) -> bool {
        lock(&self.heard).is_some_and(|at| at.elapsed() < HEARD)
    }

    /// Remembers that the whole has this digest, to tell the info-server.
    pub(super) fn found(&self, digest: Option<Digest>) {
        *lock(&self.found) = digest;
    }

    fn note_heard(&self) {
        *lock(&self.heard) = Some(Instant::now());
    }

    fn note_silence(&self) {
        *lock(&self.heard) = None;
    }

    /// A refusal that stays; anything else may pass.
    fn note_gone(&self, error: &InfoError) -> bool {
        let gone = matches!(error.status(), Some(401 | 403 | 404 | 410));
        if gone {
            *lock(&self.gone) = Some(error.to_string());
            self.changes.send_modify(|changes| *changes += 1);
        }
        gone
    }
}

/// Keeps the stream open until the job is gone.
async fn listen(shared: Arc<Shared>) {
    let mut pause = PAUSES.0;
    loop {
        match hear(&shared).await {
            Ok(true) => pause = PAUSES.0,
            Ok(false) => {}
            Err(error) if shared.note_gone(&error) => return,
            Err(error) => tracing::debug!(%error, "a job's stream cannot be opened"),
        }
        // Not everybody at once when the info-server comes back.
        let jitter = rand::rng().random_range(0.5..1.0);
        time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Hears one stream to its end. Returns whether it said anything.
async fn hear(shared: &Shared) -> Result<bool, InfoError> {
    let id = shared.known().job.id;
    let mut events = shared.info.job_events(id).await?;
    let mut any = false;
    loop {
        match events.next().await {
            Ok(None) => return Ok(any),
            Ok(Some(JobEvent::Job(job))) => shared.learn(|known| known.hear_job(*job)),
            Ok(Some(JobEvent::Chunks(chunks))) => shared.learn(|known| known.hear_chunks(chunks)),
            Err(error) => {
                tracing::debug!(%error, "a job's stream broke");
                return Ok(any);
            }
        }
        any = true;
        shared.note_heard();
    }
}

/// Tells what one has, about every second: that is what the job lives on.
async fn tell(shared: Arc<Shared>, progress: Progress) {
    let began = Instant::now();
    let mut ticks = time::interval(TELL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let id = shared.known().job.id;
        let sha256 = *lock(&shared.found);
        let now = progress.snapshot();
        if now.chunks_total == 0 && began.elapsed() < HASHING {
            continue;
        }
        let told = AskerProgress { runs: now.runs, sha256 };
        match shared.info.tell_progress(id, &told).await {
            Ok(()) => shared.note_heard(),
            Err(error) => {
                tracing::debug!(%error, "the info-server was not told how far it is");
                if error.status().is_none() {
                    shared.note_silence();
                }
            }
        }
    }
}
