//! One download from its first request to its last: carries out what the schedule decides, and tells it what happens.

mod learn;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::MissedTickBehavior,
};
use wire::{Digest, Layout, Runs};

use super::{
    DownloadError, Ended, Engine, Job, Report, Update,
    asking::Asking,
    lines::{self, Line},
};
use crate::{
    progress::Notice,
    schedule::{Action, End, Fault, RequestId, Schedule, SourceKey},
    sink::Sink,
    source::{Claim, Event, Failure, Fetch, Partials},
};

/// How often rates and stalls are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Events of requests that wait to be looked at; a request waits when there are more.
const EVENTS: usize = 64;
/// How long the directory may take to answer.
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the directory said.
enum Answer {
    Update(Update),
    /// It did not help this time.
    Nothing,
    Ended(Ended),
}

/// A download that runs.
pub(super) struct Course<'a> {
    engine: &'a Engine,
    job: Job,
    layout: Layout,
    sink: Arc<dyn Sink>,
    schedule: Schedule,
    lines: Vec<Line>,
    asking: Asking,
    running: BTreeMap<RequestId, Running>,
    partials: Arc<Partials>,
    ids: HashMap<Id, RequestId>,
    requests: JoinSet<Result<(), Failure>>,
    questions: JoinSet<Answer>,
    /// The one wait for what nobody asked for.
    news: JoinSet<Update>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    started: Instant,
    resumed: u64,
    waiting: bool,
}

/// A request that runs.
struct Running {
    source: SourceKey,
    claim: Arc<Claim>,
    received: Arc<AtomicU64>,
    task: AbortHandle,
}

impl<'a> Course<'a> {
    pub(super) fn new(engine: &'a Engine, job: Job, layout: Layout, (sink, held): (Arc<dyn Sink>, Runs)) -> Self {
        let resumed = bytes_in(layout, &held);
        let schedule = Schedule::new(layout, held, engine.settings.connections);
        let schedule = schedule.more_at_fast_sources(engine.settings.fast_connections);
        let schedule = if engine.settings.keep_near { schedule.keep_near() } else { schedule };
        let mut course = Self {
            engine,
            layout,
            sink,
            schedule,
            lines: Vec::new(),
            asking: Asking::default(),
            running: BTreeMap::new(),
            partials: Arc::default(),
            ids: HashMap::new(),
            requests: JoinSet::new(),
            questions: JoinSet::new(),
            news: JoinSet::new(),
            events: mpsc::channel(EVENTS),
            started: Instant::now(),
            resumed,
            waiting: false,
            job,
        };
        course.learn_digests();
        course.use_token();
        for source in std::mem::take(&mut course.job.sources) {
            course.learn_source(source);
        }
        course
    }

    /// Runs to the end. Nothing of the download runs any more when this returns.
    pub(super) async fn run(mut self) -> Result<Report, DownloadError> {
        let ended = self.drive().await;
        self.requests.shutdown().await;
        self.questions.shutdown().await;
        self.news.shutdown().await;
        self.show();
        ended?;
        let sizes = (self.layout.size(), self.resumed);
        Ok(lines::report(&self.lines, &self.schedule, sizes, self.started.elapsed()))
    }

    async fn drive(&mut self) -> Result<(), DownloadError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show();
        self.await_news();
        loop {
            self.act();
            if self.schedule.is_done() {
                return Ok(());
            }
            tokio::select! {
                () = self.engine.cancel.cancelled() => return Err(DownloadError::Interrupted),
                Some(event) = self.events.1.recv() => self.heard(event),
                Some(joined) = self.requests.join_next_with_id() => self.joined(joined)?,
                Some(answer) = self.questions.join_next() => self.answered(answer.unwrap_or(Answer::Nothing))?,
                Some(update) = self.news.join_next() => self.heard_news(update.ok()),
                _ = tick.tick() => self.look()?,
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Carries out what the schedule decides.
    fn act(&mut self) {
        let now = self.now();
        while let Some(action) = self.schedule.step(now) {
            match action {
                Action::Fetch { request, source, run } => self.fetch(request, source, run),
                Action::Cut { request, end } => {
                    let Some(running) = self.running.get(&request) else { continue };
                    let cut = running.claim.cut(end);
                    let freed = self.schedule.was_cut(request, cut);
                    self.moved(running.source, freed);
                }
                Action::Abandon { request } => {
                    if let Some(running) = self.running.get(&request) {
                        running.task.abort();
                    }
                }
            }
        }
    }

    /// Chunks were taken away from a source. That is news when the source is slow, not when equals share the last chunks.
    fn moved(&mut self, from: SourceKey, chunks: u32) {
        let now = self.now();
        let slow = self.schedule.is_slow(from);
        let Some(line) = self.lines.get_mut(from) else { return };
        if let Some(chunks) = line.moved(chunks, slow, now) {
            self.engine.progress.notice(Notice::Moved { from: line.location.server.clone(), chunks });
        }
    }

    fn fetch(&mut self, request: RequestId, source: SourceKey, run: Range<u32>) {
        let Some(line) = self.lines.get_mut(source) else { return };
        line.requests += 1;
        let (claim, received) = (Arc::new(Claim::new(&run)), Arc::new(AtomicU64::new(0)));
        self.schedule.continues(request, self.partials.bytes(run.start));
        let fetch = Fetch {
            request,
            source,
            client: self.engine.client.clone(),
            url: line.location.url.clone(),
            token: self.job.token.token.clone(),
            file: self.job.manifest.file,
            layout: self.layout,
            digests: run.clone().filter_map(|n| digest(&self.job, n)).collect(),
            run,
            claim: Arc::clone(&claim),
            received: Arc::clone(&received),
            pace: (self.engine.settings.pace.clone(), line.location.zone.clone()),
            sink: Arc::clone(&self.sink),
            partials: Arc::clone(&self.partials),
            events: self.events.0.clone(),
        };
        let task = self.requests.spawn(fetch.run());
        self.ids.insert(task.id(), request);
        self.running.insert(request, Running { source, claim, received, task });
    }

    fn heard(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Answered(request) => self.schedule.answered(request, now),
            Event::Verified(request, chunk) => {
                let returned = self.schedule.verified(request, chunk, now);
                let Some(running) = self.running.get(&request) else { return };
                let Some(line) = self.lines.get_mut(running.source) else { return };
                let bytes = self.layout.bytes_of_run(chunk..chunk + 1);
                line.bytes += bytes.end - bytes.start;
                line.refused = false;
                self.waiting = false;
                if returned {
                    line.failing = None;
                    self.engine.progress.notice(Notice::Returned { server: line.location.server.clone() });
                }
            }
        }
    }

    /// A request ended.
    fn joined(&mut self, joined: Result<(Id, Result<(), Failure>), JoinError>) -> Result<(), DownloadError> {
        // What the request said before it ended comes first.
        while let Ok(event) = self.events.1.try_recv() {
            self.heard(event);
        }
        let (id, result) = match joined {
            Ok((id, Err(Failure::Storage(error)))) => {
                self.ids.remove(&id);
                return Err(self.sink.explain(error).into());
            }
            Ok((id, result)) => (id, Some(result)),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (error.id(), Some(Err(Failure::Answer("its answer could not be handled".into())))),
        };
        let Some((request, running)) = self.ids.remove(&id).and_then(|id| Some((id, self.running.remove(&id)?))) else {
            return Ok(());
        };
        let end = match result {
            None => End::Abandoned,
            Some(Ok(())) => End::Finished,
            Some(Err(failure)) => End::Failed(self.failed(running.source, &failure)),
        };
        let now = self.now();
        self.schedule.keeps(request, |chunk| self.partials.bytes(chunk));
        let left = self.schedule.ended(request, end, running.received.load(Ordering::Relaxed), now);
        if end == End::Abandoned {
            self.abandoned(running.source, left);
        }
        Ok(())
    }

    fn failed(&mut self, source: SourceKey, failure: &Failure) -> Fault {
        let fault = failure.fault();
        let Some(line) = self.lines.get_mut(source) else { return fault };
        let server = line.location.server.clone();
        tracing::debug!(%server, %failure, "a request of a download failed");
        if fault == Fault::Unclear {
            return fault;
        }
        line.failures += 1;
        if let Failure::WrongBytes { chunk } = failure {
            line.dropped = Some(failure.to_string());
            self.engine.progress.notice(Notice::WrongBytes { server, chunk: *chunk });
            return fault;
        }
        let news = line.failing.replace(failure.to_string()).is_none();
        // A second refusal is not the token's fault: asking for token after token would not end.
        let refused = fault == Fault::Refused && !std::mem::replace(&mut line.refused, true);
        let reason = failure.to_string();
        match fault {
            Fault::Refused if refused => self.engine.progress.notice(Notice::Refused { server, reason }),
            _ if news => self.engine.progress.notice(Notice::Lost { server, reason }),
            _ => {}
        }
        if fault == Fault::Refused && !refused { Fault::Broken } else { fault }
    }

    /// A request was stopped because it was late.
    fn abandoned(&mut self, source: SourceKey, chunks: u32) {
        let resting = self.schedule.is_failing(source);
        let Some(line) = self.lines.get_mut(source) else { return };
        if !resting || line.dropped.is_some() {
            self.moved(source, chunks);
            return;
        }
        let reason = "it sent next to nothing".to_owned();
        line.failures += 1;
        if line.failing.replace(reason.clone()).is_none() {
            self.engine.progress.notice(Notice::Lost { server: line.location.server.clone(), reason });
        }
    }

    /// Looks at the clock: rates, stalls, the token's age, and whether to give up.
    fn look(&mut self) -> Result<(), DownloadError> {
        let now = self.now();
        for (request, running) in &self.running {
            self.schedule.received(*request, running.received.load(Ordering::Relaxed), now);
        }
        let missing = self.schedule.missing();
        if missing.sources && self.running.is_empty() && !std::mem::replace(&mut self.waiting, true) {
            self.engine.progress.notice(Notice::Waiting);
        }
        if let Some(why) = self.asking.next(missing, now) {
            let directory = Arc::clone(&self.engine.directory);
            self.questions.spawn(async move {
                match tokio::time::timeout(DIRECTORY_TIMEOUT, directory.refresh(why)).await {
                    Ok(Ok(update)) => Answer::Update(update),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, ?why, "the directory did not help");
                        error.downcast::<Ended>().map_or(Answer::Nothing, |ended| Answer::Ended(*ended))
                    }
                    Err(_) => Answer::Nothing,
                }
            });
        }
        self.show();
        if self.schedule.is_hopeless(self.engine.settings.wait, now) {
            let reasons = lines::reasons(&self.lines);
            return Err(DownloadError::NoSources { waited: self.engine.settings.wait, reasons });
        }
        Ok(())
    }

    /// Brings the user's view up to date.
    fn show(&self) {
        let now = self.now();
        let done = self.schedule.done();
        self.engine.progress.update(|view| {
            view.chunks_total = self.layout.count();
            view.bytes_total = self.layout.size();
            view.chunks_done = done.len();
            if view.runs != *done {
                view.runs.clone_from(done);
            }
            view.bytes_done = bytes_in(self.layout, done);
            view.sources =
                (self.lines.iter().enumerate()).map(|(key, line)| line.view(key, &self.schedule, now)).collect();
            view.rate = view.sources.iter().map(|line| line.rate).sum();
            let left_ms = (view.bytes_total - view.bytes_done).saturating_mul(1000).checked_div(view.rate);
            view.remaining = left_ms.map(Duration::from_millis);
        });
    }
}

fn digest(job: &Job, n: u32) -> Option<Digest> {
    job.manifest.chunks.get(usize::try_from(n).ok()?).copied().flatten()
}

fn bytes_in(layout: Layout, runs: &Runs) -> u64 {
    runs.iter().map(|run| layout.bytes_of_run(run)).map(|bytes| bytes.end - bytes.start).sum()
}
