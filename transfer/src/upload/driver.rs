//! The driver of one upload, from its first chunk to its last.

use std::{
    fs::{File, Metadata},
    io,
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Interval, MissedTickBehavior};
use wire::{ChunkLayout, Digest, Hasher, catalogue::UploadPlan};

use super::{
    accepted_rate::{BODY_GRACE_TIME, MIN_ACCEPTED_BODY_RATE},
    in_flight::{CompletedRequest, InFlight},
    report::{TargetReport, UploadError, UploadEvent},
    target::{TargetIdx, TargetState},
    upload_chunk::UploadChunk,
};
use crate::rate_limiter::RateLimiter;

/// Bytes of the file in flight: bounds memory, and the lead of the fastest target.
const MAX_BYTES_IN_FLIGHT: u64 = 16 << 20;
/// Most chunks in flight, however small.
const MAX_CHUNKS_IN_FLIGHT: u64 = 8;
/// Limit of the rate, in bytes per second, below which chunks are sent one after the other.
const MIN_RATE_OF_WINDOW: u64 = 4 << 20;
/// Interval at which stalled targets are looked for.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The settings of an upload, borrowed from its publisher.
#[derive(Clone, Copy)]
pub(super) struct UploadSettings<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) resume: bool,
    pub(super) rate_limiter: &'a RateLimiter,
    pub(super) progress: &'a (dyn Fn(UploadEvent) + Send + Sync),
}

/// An upload in progress.
pub(super) struct UploadDriver<'a> {
    settings: UploadSettings<'a>,
    plan: &'a UploadPlan,
    layout: ChunkLayout,
    file: Arc<File>,
    /// Targets in the order of the plan, and of their [`TargetIdx`].
    targets: Vec<TargetState>,
    /// Dropped, and with it every request, when the upload fails or is cancelled.
    in_flight: InFlight,
    stall_checks: Interval,
    held_bytes: u64,
}

impl<'a> UploadDriver<'a> {
    pub(super) fn new(settings: UploadSettings<'a>, plan: &'a UploadPlan, layout: ChunkLayout, file: File) -> Self {
        let mut stall_checks = tokio::time::interval(STALL_CHECK_INTERVAL);
        stall_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            settings,
            plan,
            layout,
            file: Arc::new(file),
            targets: plan.targets.iter().cloned().map(TargetState::new).collect(),
            in_flight: InFlight::default(),
            stall_checks,
            held_bytes: 0,
        }
    }

    pub(super) fn file_metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    pub(super) fn into_reports(self) -> Vec<TargetReport> {
        self.targets.into_iter().map(TargetState::report).collect()
    }

    /// Sends all chunks. Returns the SHA-256 of the file and of each chunk.
    pub(super) async fn run(&mut self) -> Result<(Digest, Vec<Digest>), UploadError> {
        self.check_limit()?;
        // An empty file has no chunk to send: the request for held chunks is what makes a target hold it.
        if self.settings.resume || self.layout.count() == 0 {
            let (client, token) = (self.settings.client, &self.plan.upload.token);
            join_all(self.targets.iter_mut().map(|target| target.ask_held_chunks(client, token))).await;
        }
        self.check_quorum()?;
        let window = (MAX_BYTES_IN_FLIGHT / self.layout.chunk_size()).clamp(1, MAX_CHUNKS_IN_FLIGHT);
        let is_slow = self.settings.rate_limiter.total_rate().is_some_and(|rate| rate < MIN_RATE_OF_WINDOW);
        // With many requests at a low rate, each would look stalled.
        let window = if is_slow { 1 } else { usize::try_from(window).unwrap_or(1) };
        let (mut whole, mut digests) = (Hasher::new(), Vec::new());
        for index in self.layout.chunks() {
            while self.in_flight.chunks() >= window {
                self.advance().await?;
            }
            let (layout, file) = (self.layout, Arc::clone(&self.file));
            let read = tokio::task::spawn_blocking(move || {
                let chunk = UploadChunk::read(&file, layout, index, &mut whole);
                (chunk, whole)
            });
            let (chunk, hasher) = read.await.map_err(|_| UploadError::Interrupted)?;
            whole = hasher;
            let chunk = chunk?;
            digests.push(chunk.digest);
            self.send(&chunk);
        }
        while self.in_flight.chunks() > 0 {
            self.advance().await?;
        }
        Ok((whole.finish(), digests))
    }

    /// Fails when the limit is too low for any server to accept a chunk.
    fn check_limit(&self) -> Result<(), UploadError> {
        let largest = self.layout.chunk_size().min(self.layout.size());
        let accepted = BODY_GRACE_TIME.as_secs() + largest / MIN_ACCEPTED_BODY_RATE;
        match self.settings.rate_limiter.total_rate() {
            Some(rate) if largest / rate > accepted => {
                Err(UploadError::LimitTooLow { rate, min: MIN_ACCEPTED_BODY_RATE })
            }
            _ => Ok(()),
        }
    }

    /// Sends a chunk to every live target that lacks it.
    fn send(&mut self, chunk: &UploadChunk) {
        let UploadSettings { client, rate_limiter, .. } = self.settings;
        let token = &self.plan.upload.token;
        let targets = (0..).map(TargetIdx::new).zip(&mut self.targets);
        let put = |(idx, target): (TargetIdx, &mut TargetState)| Some((idx, target.put(chunk, client, token)?));
        let mut requests: Vec<_> = targets.filter_map(put).collect();
        // Each request gets its share of the limit.
        let shares = u64::try_from(requests.len() * (self.in_flight.chunks() + 1)).unwrap_or(u64::MAX).max(1);
        for (_, request) in &mut requests {
            request.limit(rate_limiter.clone(), shares);
        }
        if requests.is_empty() {
            self.count_held(chunk.len);
        } else {
            self.in_flight.start(chunk, requests);
        }
    }

    /// Waits for a request to end, or for the next check for stalled targets.
    async fn advance(&mut self) -> Result<(), UploadError> {
        tokio::select! {
            completed = self.in_flight.next_completed() => self.handle_completed(completed),
            _ = self.stall_checks.tick() => {
                self.leave_stalled_behind();
                Ok(())
            }
        }
    }

    fn handle_completed(&mut self, completed: CompletedRequest) -> Result<(), UploadError> {
        let CompletedRequest { target, len, result, is_last } = completed;
        let failure = self.target_mut(target).and_then(|target| target.request_ended(len, result));
        if failure.is_none() {
            (self.settings.progress)(UploadEvent::Accepted);
        }
        if let Some(failure) = failure {
            self.report_left_behind(target, failure);
        }
        self.check_quorum()?;
        if is_last {
            self.count_held(len);
        }
        Ok(())
    }

    fn count_held(&mut self, len: u64) {
        self.held_bytes += len;
        (self.settings.progress)(UploadEvent::Held(self.held_bytes));
    }

    /// Gives up stalled targets, if the others make the quorum.
    fn leave_stalled_behind(&mut self) {
        let stalled: Vec<(TargetIdx, String)> = (0..)
            .map(TargetIdx::new)
            .zip(&self.targets)
            .filter(|(idx, target)| target.is_live() && self.in_flight.is_busy(*idx))
            .filter_map(|(idx, target)| Some((idx, target.stall()?)))
            .collect();
        let live = self.targets.iter().filter(|target| target.is_live()).count();
        if !self.makes_quorum(live - stalled.len()) {
            return;
        }
        for (idx, reason) in stalled {
            if let Some(target) = self.target_mut(idx) {
                target.give_up(reason.clone());
            }
            self.in_flight.abort(idx);
            self.report_left_behind(idx, reason);
        }
    }

    fn report_left_behind(&self, target: TargetIdx, reason: String) {
        if let Some(target) = self.targets.get(target.index()) {
            let server = target.server().clone();
            (self.settings.progress)(UploadEvent::LeftBehind { server, reason });
        }
    }

    fn target_mut(&mut self, target: TargetIdx) -> Option<&mut TargetState> {
        self.targets.get_mut(target.index())
    }

    fn makes_quorum(&self, servers: usize) -> bool {
        usize::try_from(self.plan.quorum).is_ok_and(|quorum| servers >= quorum.max(1))
    }

    /// Fails when fewer targets are live than the quorum needs.
    fn check_quorum(&self) -> Result<(), UploadError> {
        let alive = self.targets.iter().filter(|target| target.is_live()).count();
        let quorum = self.plan.quorum;
        if self.makes_quorum(alive) {
            return Ok(());
        }
        let failures: Vec<String> = self.targets.iter().filter_map(TargetState::failure).collect();
        let full = self.targets.iter().filter(|target| target.lacks_room()).count();
        let (failed, reasons) = (failures.len(), failures.join("; "));
        Err(UploadError::Quorum { alive, quorum, failed, full, reasons })
    }
}
