//! Takes a job's chunks from its workers while others are still being fetched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::time;
use tokio_util::sync::CancellationToken;
use transfer::{
    download::{Complete, DownloadError, Engine, Job, Settings},
    info::InfoError,
    journal::{Kin, origin_mark},
    progress::Progress,
    sink::Place,
};
use wire::{
    FileId,
    catalog::IssuedToken,
    job::{Checked, JobInfo, JobState, Reason},
};

use super::{
    Fetched, Together, Wanted,
    confirm::{Confirmed, confirm},
    directory::JobDirectory,
    follow::{Follow, Shared},
};
use crate::{
    commands::{Context, get},
    progress::{self, Display, Shown},
    text,
};

/// Requests in flight at each worker, and at one that is fast. Its link is full of what it fetches itself: the congestion control
/// of few connections (BBR) then keeps too little under way to fill the other direction.
const CONNECTIONS: usize = 4;
const FAST_CONNECTIONS: usize = 16;
/// How long the info-server may take to hear that one has left: at most this when a signal ended it.
const LEAVE: Duration = Duration::from_secs(1);
/// Between two tries to begin.
const RETRY: Duration = Duration::from_millis(500);

/// Fetches the file of `job`. Whatever happens, the job is left at the end unless it is to be kept.
///
/// # Errors
/// What kept the file from standing under its name; what was verified is kept for the next try.
pub(crate) async fn together(
    context: &Context,
    wanted: &Wanted,
    job: JobInfo,
    display: Display,
) -> anyhow::Result<Together> {
    let (progress, notices) = Progress::new();
    let info = context.info_server()?.asking_as(wanted.asker);
    let (id, began) = (job.id, job.state != JobState::Scheduled);
    let follow = Follow::start(info.clone(), context.common.zone.clone(), job, progress.clone());
    let course = Course {
        context,
        wanted,
        display,
        shared: Arc::clone(&follow.shared),
        progress: progress.clone(),
        started: Instant::now(),
        began: AtomicBool::new(began),
    };
    let shared = Arc::clone(&follow.shared);
    let shown = progress::watch_job(display, (progress, notices), move || shared.known().job.clone());
    let outcome = tokio::select! {
        outcome = course.run() => outcome,
        never = shown => match never {},
    };
    drop(follow);
    let again = matches!(outcome, Ok(Together::Again(_)));
    if !wanted.keep || again {
        match time::timeout(LEAVE, info.leave_job(id)).await {
            Ok(Ok(())) => {}
            // Not lost on the way, but given up by whoever may: it is not asked for again.
            Ok(Err(error)) if again && error.has_left() => bail!("the job {id} was cancelled for your account"),
            Ok(Err(error)) => tracing::debug!(%error, "the job was not left in good order"),
            Err(_) => tracing::debug!("the info-server did not hear in time that the job was left"),
        }
    }
    outcome
}

struct Course<'a> {
    context: &'a Context,
    wanted: &'a Wanted,
    display: Display,
    shared: Arc<Shared>,
    progress: Progress,
    started: Instant,
    /// The job was seen running: it is not one that was cancelled before its time.
    began: AtomicBool,
}

/// What a job comes to while one waits for something else.
enum Turn {
    /// Digests were withdrawn: what is there is to be hashed again.
    Anew,
    /// It ended without a result.
    Over,
}

impl Course<'_> {
    async fn run(&self) -> anyhow::Result<Together> {
        let mut token = None;
        loop {
            if let Some(end) = self.until_asked().await? {
                return Ok(end);
            }
            let taken = match self.take(&mut token).await {
                Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Gone { .. })) => {
                    return Ok(Together::Again("the info-server does not know it any more".to_owned()));
                }
                taken => taken?,
            };
            let Some(complete) = taken else {
                if let Some(end) = self.over()? {
                    return Ok(end);
                }
                continue;
            };
            let (epoch, expected) = (self.shared.known().epoch, self.wanted.sha256);
            let wait = self.wanted.target.wait;
            match confirm(&self.shared, &complete, (expected, epoch), wait, &self.context.cancel).await? {
                Confirmed::Yes { checked, sha256 } => {
                    let place = self.place()?;
                    let report = complete.name().await?;
                    let job = self.shared.known().job.clone();
                    let elapsed = self.started.elapsed();
                    return Ok(Together::Whole(Box::new(Fetched {
                        path: place.path(),
                        size: report.size,
                        checked,
                        sha256,
                        alone: None,
                        saved_seconds: saved(&job, elapsed, report.resumed),
                        report: Some(report),
                        job: Some(Box::new(job)),
                        elapsed,
                    })));
                }
                Confirmed::Anew => self.tell("Digests were withdrawn: what is here is checked once more."),
                Confirmed::Over => {
                    if let Some(end) = self.over()? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn tell(&self, words: &str) {
        progress::note(self.display, "note", words);
    }

    fn place(&self) -> anyhow::Result<Place> {
        get::place(&self.wanted.target, &self.shared.known().job.name)
    }

    /// Waits until the origin was asked. Returns why it is not to be fetched together, if so.
    async fn until_asked(&self) -> anyhow::Result<Option<Together>> {
        let mut changes = self.shared.changes();
        let mut lost = Instant::now();
        let mut told = false;
        loop {
            if let Some(end) = self.over()? {
                return Ok(Some(end));
            }
            let (state, file) = {
                let known = self.shared.known();
                (known.job.state, known.file())
            };
            if state != JobState::Scheduled && file.is_some() {
                self.began.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            if state == JobState::Scheduled && !std::mem::replace(&mut told, true) {
                let start = text::moment(self.shared.known().job.start_at);
                self.tell(&format!("Waiting until {start}; Ctrl-C gives it up."));
            }
            if let Some(gone) = self.shared.gone() {
                bail!("the job is no more: {gone}");
            }
            // Until its time nothing is amiss when the info-server is away.
            let early = self.shared.known().job.start_at > jiff::Timestamp::now();
            if self.shared.hears() || early {
                lost = Instant::now();
            }
            ensure!(lost.elapsed() < self.wanted.target.wait, "the info-server does not answer; start again to go on");
            let waited = time::timeout(RETRY, changes.changed());
            self.context.cancel.run_until_cancelled(waited).await.ok_or(DownloadError::Interrupted)?.ok();
        }
    }

    /// Whether the job ended without a result, and what to do then.
    fn over(&self) -> anyhow::Result<Option<Together>> {
        let (state, reason, id, named_elsewhere) = {
            let job = &self.shared.known().job;
            let named_elsewhere = job.checked == Some(Checked::Sha256) && job.sha256 != self.wanted.sha256;
            (job.state, job.reason, job.id, named_elsewhere)
        };
        let alone = |or: Reason| Ok(Some(Together::Alone(reason.unwrap_or(or).into())));
        match (state, reason) {
            (JobState::Direct, _) => alone(Reason::NoRanges),
            (JobState::Failed, Some(Reason::WrongDigest)) if named_elsewhere => {
                Ok(Some(Together::Again("it is not what another asker's --sha256 says".to_owned())))
            }
            (JobState::Failed, Some(reason @ (Reason::Changed | Reason::WrongDigest))) => {
                bail!("{}; start again for what is there now", reason.sentence())
            }
            (JobState::Failed, _) => alone(Reason::WorkersFailed),
            (JobState::Stopped, _) if self.began.load(Ordering::Relaxed) => {
                Ok(Some(Together::Again("nothing was heard from here for a while, or somebody left it".to_owned())))
            }
            (JobState::Stopped, _) => bail!("the job {id} was cancelled"),
            (JobState::Scheduled | JobState::Running | JobState::Checking | JobState::Done, _) => Ok(None),
        }
    }

    /// Takes chunks until all are here; none when something of the job changed that has to be looked at first.
    async fn take(&self, token: &mut Option<IssuedToken>) -> anyhow::Result<Option<Complete>> {
        let file = self.shared.known().file().context("the job has no file")?;
        self.learn_all(file, token).await?;
        // It ended meanwhile.
        let Some(token) = token.clone() else { return Ok(None) };
        let place = self.place()?;
        let (epoch, kin, manifest, sources) = {
            let known = self.shared.known();
            let kin = Kin { formerly: known.job.formerly.clone(), origin: Some(origin_mark(&known.job.url)) };
            let manifest = known.manifest().context("the job has no size")?;
            (known.epoch, kin, manifest, get::sources(known.sources(), self.shared.zone.as_ref()))
        };
        progress::start(self.display, &self.shown(&manifest.file, manifest.size), self.context.trace);
        let child = self.context.cancel.child_token();
        let engine = Engine {
            client: self.context.http()?,
            settings: Settings {
                connections: CONNECTIONS,
                fast_connections: FAST_CONNECTIONS,
                wait: self.wanted.target.wait,
                ..Settings::default()
            },
            directory: Arc::new(JobDirectory::new(Arc::clone(&self.shared), file)),
            progress: self.progress.clone(),
            cancel: child.clone(),
        };
        let job = Job { manifest, sources, token };
        let turned = self.watch_turn(epoch, child);
        // Not dropped midway: the `.part` file must be free again before anything else is done with it.
        let (complete, turn) = tokio::join!(engine_ends(&engine, job, (&place, &kin)), turned);
        match (complete, turn) {
            (Ok(complete), None | Some(Turn::Over)) => Ok(Some(complete)),
            (Ok(_), Some(Turn::Anew)) => Ok(None),
            (Err(DownloadError::Interrupted), Some(_)) if !self.context.cancel.is_cancelled() => Ok(None),
            (Err(error), _) => Err(error.into()),
        }
    }

    fn shown(&self, file: &FileId, size: u64) -> Shown {
        Shown { id: *file, name: self.shared.known().job.name.clone(), size }
    }

    /// Looks out for what makes going on useless; cancels the engine then. Ends with the engine, too.
    async fn watch_turn(&self, epoch: u64, engine: CancellationToken) -> Option<Turn> {
        let mut changes = self.shared.changes();
        loop {
            let turn = {
                let known = self.shared.known();
                if known.epoch != epoch { Some(Turn::Anew) } else { known.job.state.is_dead().then_some(Turn::Over) }
            };
            if turn.is_some() {
                engine.cancel();
                return turn;
            }
            match engine.run_until_cancelled(changes.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Learns all digests and places that there are, and takes a token: before what is there is hashed.
    async fn learn_all(&self, file: FileId, token: &mut Option<IssuedToken>) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let asked = self.context.cancel.run_until_cancelled(self.ask(file, token.is_none()));
            match asked.await.ok_or(DownloadError::Interrupted)? {
                Ok(fresh) => {
                    *token = fresh.or(token.take());
                    ensure!(token.is_some(), "the info-server gave no token for this job");
                    return Ok(());
                }
                // Whoever has a token goes on with what is known.
                Err(_) if token.is_some() => return Ok(()),
                Err(error) if error.status().is_some() || begun.elapsed() > self.wanted.target.wait => {
                    // The state, which may be on its way, says more than a 404.
                    time::sleep(RETRY).await;
                    return if self.shared.known().job.state.is_dead() { Ok(()) } else { Err(error.into()) };
                }
                Err(error) => {
                    tracing::debug!(%error, "the job's file cannot be begun yet");
                    time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn ask(&self, file: FileId, grant: bool) -> Result<Option<IssuedToken>, InfoError> {
        let details = self.shared.info.file(file, self.shared.zone.as_ref(), grant).await?;
        let manifest = self.shared.info.manifest(file).await?;
        self.shared.learn(|known| {
            known.hear_places(details.locations);
            known.hear_manifest(&manifest);
        });
        Ok(details.download)
    }
}

/// Runs the engine; whoever waits beside it is let go when it ends.
async fn engine_ends(engine: &Engine, job: Job, (place, kin): (&Place, &Kin)) -> Result<Complete, DownloadError> {
    let complete = engine.complete(job, place, kin).await;
    engine.cancel.cancel();
    complete
}

/// How much longer the worker that fetched most would have needed alone, if all was fetched while one looked.
fn saved(job: &JobInfo, elapsed: Duration, resumed: u64) -> Option<f64> {
    let most = job.workers.iter().map(|worker| worker.bytes).max().filter(|most| *most > 0)?;
    let size = job.size.filter(|size| resumed == 0 && *size > most)?;
    // Shown, not reckoned with.
    let (size, most) = (Duration::from_nanos(size).as_secs_f64(), Duration::from_nanos(most).as_secs_f64());
    Some(elapsed.as_secs_f64() * (size / most - 1.0))
}
