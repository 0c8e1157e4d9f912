//! The driver of one download: executes what the schedule decides, and reports to it what happens.

mod requests;
mod updates;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, Id, JoinSet},
    time::MissedTickBehavior,
};
use wire::{ChunkLayout, ChunkSet, Digest};

use super::{
    directory::{PermanentError, Update},
    engine::Engine,
    error::DownloadError,
    lost_chunks,
    mismatch_reports::MismatchReports,
    plan::DownloadPlan,
    refresh_policy::RefreshPolicy,
    report::Report,
    slow_watch::{Crawl, SlowWatch},
    source_stats::{self, SourceStats},
};
use crate::{
    progress::{Notice, SlowSource},
    schedule::{Action, RequestId, Schedule, SourceId},
    sink::Sink,
    source::{ChunkCursor, Failure, PartialChunks, RequestEvent, RequestProgress},
};

/// Interval at which rates, stalls and time-outs are checked.
const TICK_INTERVAL: Duration = Duration::from_millis(50);
/// Events of requests in the queue; with more, a request waits.
const MAX_QUEUED_EVENTS: usize = 64;
/// Time without a source until the user is notified: by then the directory has nearly always answered.
const WAIT_NOTICE_DELAY: Duration = Duration::from_secs(1);
/// Time that the directory may take to answer.
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a request to the directory.
enum RefreshOutcome {
    Update(Box<Update>),
    /// The directory failed or timed out.
    Unavailable,
    Permanent(PermanentError),
}

/// A download all of whose chunks are verified.
pub(super) struct Filled {
    pub(super) report: Report,
    /// The digests of all chunks.
    pub(super) digests: Vec<Option<Digest>>,
}

/// A download in progress.
pub(super) struct DownloadDriver<'a> {
    engine: &'a Engine,
    plan: DownloadPlan,
    layout: ChunkLayout,
    sink: Arc<dyn Sink>,
    schedule: Schedule,
    /// Sources in the order of their [`SourceId`]s.
    sources: Vec<SourceStats>,
    refresh_policy: RefreshPolicy,
    in_flight: BTreeMap<RequestId, InFlightRequest>,
    partial_chunks: Arc<PartialChunks>,
    request_of_task: HashMap<Id, RequestId>,
    requests: JoinSet<Result<(), Failure>>,
    refreshes: JoinSet<RefreshOutcome>,
    mismatch_reports: MismatchReports,
    /// The one task that waits for unsolicited updates.
    updates: JoinSet<Update>,
    event_sender: mpsc::Sender<RequestEvent>,
    events: mpsc::Receiver<RequestEvent>,
    started: Instant,
    resumed_bytes: u64,
    waiting: Option<Waiting>,
    /// Chunks that no server holds any more, as far as the directory knows.
    lost: ChunkSet,
    /// Set while nothing can be fetched: `lost` is of that time then.
    is_exhausted: bool,
    slow_watch: SlowWatch,
}

/// A wait for a source.
struct Waiting {
    since: Duration,
    is_noticed: bool,
}

struct InFlightRequest {
    source: SourceId,
    cursor: Arc<ChunkCursor>,
    progress: Arc<RequestProgress>,
    task: AbortHandle,
}

impl<'a> DownloadDriver<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        plan: DownloadPlan,
        layout: ChunkLayout,
        sink: Arc<dyn Sink>,
        held: ChunkSet,
    ) -> Self {
        let resumed_bytes = bytes_in(layout, &held);
        let schedule = Schedule::new(layout, held, engine.settings.connections);
        let schedule = schedule.with_more_at_fast_sources(engine.settings.fast_connections);
        let schedule = match engine.settings.rate_limiter.total_rate() {
            Some(rate) => schedule.with_limit(rate),
            None => schedule,
        };
        let schedule = if engine.settings.strict_tiers { schedule.with_strict_tiers() } else { schedule };
        let (event_sender, events) = mpsc::channel(MAX_QUEUED_EVENTS);
        let mut driver = Self {
            engine,
            layout,
            sink,
            schedule,
            sources: Vec::new(),
            refresh_policy: RefreshPolicy::default(),
            in_flight: BTreeMap::new(),
            partial_chunks: Arc::default(),
            request_of_task: HashMap::new(),
            requests: JoinSet::new(),
            refreshes: JoinSet::new(),
            mismatch_reports: MismatchReports::default(),
            updates: JoinSet::new(),
            event_sender,
            events,
            started: Instant::now(),
            resumed_bytes,
            waiting: None,
            lost: ChunkSet::new(),
            is_exhausted: false,
            slow_watch: SlowWatch::new(engine.settings.rate_limiter.total_rate()),
            plan,
        };
        driver.add_digests();
        driver.use_token();
        for source in std::mem::take(&mut driver.plan.sources) {
            driver.add_source(source);
        }
        driver
    }

    /// Runs the download to its end. No task of it runs any more when this returns.
    pub(super) async fn run(mut self) -> Result<Filled, DownloadError> {
        let ended = self.drive().await;
        self.requests.shutdown().await;
        self.refreshes.shutdown().await;
        self.updates.shutdown().await;
        self.mismatch_reports.finish().await;
        self.notice_moved(true);
        self.publish_progress();
        ended?;
        let (size, elapsed) = (self.layout.size(), self.started.elapsed());
        let report = source_stats::report(&self.sources, &self.schedule, size, self.resumed_bytes, elapsed);
        Ok(Filled { report, digests: self.plan.manifest.chunks })
    }

    async fn drive(&mut self) -> Result<(), DownloadError> {
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.publish_progress();
        self.await_update();
        loop {
            self.execute_actions();
            if self.schedule.is_done() {
                return Ok(());
            }
            tokio::select! {
                () = self.engine.cancel.cancelled() => return Err(DownloadError::Interrupted),
                Some(event) = self.events.recv() => self.handle_event(event),
                Some(joined) = self.requests.join_next_with_id() => self.handle_ended_request(joined)?,
                Some(outcome) = self.refreshes.join_next() => {
                    self.handle_refresh(outcome.unwrap_or(RefreshOutcome::Unavailable))?;
                }
                Some(update) = self.updates.join_next() => self.handle_update(update.ok()),
                _ = tick.tick() => self.tick()?,
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn source_mut(&mut self, source: SourceId) -> Option<&mut SourceStats> {
        self.sources.get_mut(source.index())
    }

    /// Executes what the schedule decides.
    fn execute_actions(&mut self) {
        let now = self.now();
        while let Some(action) = self.schedule.next_action(now) {
            match action {
                Action::Fetch { request, source, run } => self.start_request(request, source, run),
                Action::Truncate { request, end } => {
                    let Some(running) = self.in_flight.get(&request) else { continue };
                    let (source, end) = (running.source, running.cursor.truncate(end));
                    let freed = self.schedule.truncated(request, end);
                    self.count_moved(source, freed);
                }
                Action::Abandon { request } => {
                    if let Some(running) = self.in_flight.get(&request) {
                        running.task.abort();
                    }
                }
            }
        }
    }

    /// Counts chunks that moved away from a source. A notice follows when the source is slow, but not when equals share the
    /// last chunks.
    fn count_moved(&mut self, from: SourceId, chunks: u32) {
        let (now, is_slow) = (self.now(), self.schedule.is_slow(from));
        if let Some(source) = self.source_mut(from) {
            source.count_moved(chunks, is_slow, now);
        }
    }

    /// Notifies the user of chunks that moved away from slow sources. Nothing more can be learned of them once the download
    /// `is_over`.
    fn notice_moved(&mut self, is_over: bool) {
        let now = self.now();
        for (id, source) in (0..).map(SourceId::new).zip(&mut self.sources) {
            if let Some(chunks) = source.take_moved(is_over, now) {
                let (from, silent_for) = (source.location.server.clone(), self.schedule.silence(id));
                self.engine.progress.notice(Notice::Moved { from, chunks, silent_for });
            }
        }
    }

    /// Checks what depends on the clock: rates, stalls, the age of the token, and whether to give up.
    fn tick(&mut self) -> Result<(), DownloadError> {
        let now = self.now();
        for (request, running) in &self.in_flight {
            let progress = &running.progress;
            self.schedule.arrived(*request, progress.arrived(), now);
            self.schedule.passed(*request, progress.passed());
            if progress.waits_for_limit() {
                self.schedule.limited(*request, now);
            }
        }
        self.end_if_lost(now)?;
        let missing = self.schedule.missing();
        if missing.sources && self.in_flight.is_empty() {
            self.notice_wait(now);
        }
        if let Some(reason) = self.refresh_policy.start(missing, now) {
            self.refresh(reason);
        }
        self.publish_progress();
        self.notice_slowness(now);
        self.notice_moved(false);
        let patience = self.engine.settings.wait;
        if self.schedule.is_hopeless(patience, now) {
            let received = self.received_bytes();
            self.sources.iter_mut().zip(received).for_each(|(source, received)| source.received = received);
            let reasons = source_stats::reasons(&self.sources, now);
            let lost = lost_chunks::describe(&self.schedule.lost_chunks(), &self.sources);
            return Err(DownloadError::NoSources { waited: patience, lost, reasons });
        }
        Ok(())
    }

    /// Notifies the user, once, of a wait for a source that is longer than a request to the directory.
    fn notice_wait(&mut self, now: Duration) {
        let waiting = self.waiting.get_or_insert(Waiting { since: now, is_noticed: false });
        if waiting.is_noticed || now < waiting.since + WAIT_NOTICE_DELAY {
            return;
        }
        waiting.is_noticed = true;
        let lost = lost_chunks::describe(&self.schedule.lost_chunks(), &self.sources);
        self.engine.progress.notice(Notice::Waiting { lost });
    }

    /// Returns the bytes that each source gave so far, in their order.
    fn received_bytes(&self) -> Vec<u64> {
        let mut received: Vec<u64> = self.sources.iter().map(|source| source.received).collect();
        for running in self.in_flight.values() {
            let bytes = running.progress.arrived();
            received.get_mut(running.source.index()).into_iter().for_each(|sum| *sum = sum.saturating_add(bytes));
        }
        received
    }

    /// Notifies the user of sources that give so little that no chunk becomes complete.
    fn notice_slowness(&mut self, now: Duration) {
        let (chunks, received) = (self.schedule.verified_chunks().len(), self.received_bytes());
        let Some(Crawl { rates, without_chunk }) = self.slow_watch.observe(now, chunks, received) else { return };
        let slow = self.sources.iter().zip(rates).filter(|(_, rate)| *rate > 0);
        let sources = slow.map(|(source, rate)| SlowSource { server: source.location.server.clone(), rate });
        self.engine.progress.notice(Notice::Slow { sources: sources.collect(), without_chunk });
    }

    /// Brings the view of the user interface up to date.
    fn publish_progress(&self) {
        let now = self.now();
        let verified = self.schedule.verified_chunks();
        self.engine.progress.update(|view| {
            view.chunks_total = self.layout.count();
            view.bytes_total = self.layout.size();
            view.chunks_done = verified.len();
            if view.runs != *verified {
                view.runs.clone_from(verified);
            }
            view.bytes_done = bytes_in(self.layout, verified);
            let ids = (0..).map(SourceId::new);
            let sources = ids.zip(&self.sources).map(|(id, source)| source.progress(id, &self.schedule, now));
            view.sources = sources.collect();
            view.rate = view.sources.iter().map(|source| source.rate).sum();
            let left_ms = (view.bytes_total - view.bytes_done).saturating_mul(1000).checked_div(view.rate);
            view.remaining = left_ms.map(Duration::from_millis);
        });
    }
}

/// Returns the bytes in a set of chunks.
fn bytes_in(layout: ChunkLayout, chunks: &ChunkSet) -> u64 {
    chunks.iter().map(|run| layout.bytes_of_run(run)).map(|bytes| bytes.end - bytes.start).sum()
}
