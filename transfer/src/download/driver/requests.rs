//! The requests of a download: their start, their events and their end.

use std::{ops::Range, sync::Arc};

use tokio::task::{Id, JoinError};
use wire::Digest;

use super::{DownloadDriver, InFlightRequest};
use crate::{
    download::{error::DownloadError, plan::DownloadPlan},
    progress::Notice,
    schedule::{RequestId, RequestOutcome, SourceFault, SourceId},
    source::{ChunkCursor, Failure, Fetch, RequestEvent, RequestProgress},
};

/// Reason of a source that is set aside.
const NEVER_FINISHES: &str = "it does not finish a chunk of which it or another source sent wrong bytes";

impl DownloadDriver<'_> {
    pub(super) fn start_request(&mut self, request: RequestId, source: SourceId, run: Range<u32>) {
        self.schedule.set_resumed_bytes(request, self.partial_chunks.bytes(run.start, source));
        let Some(stats) = self.sources.get_mut(source.index()) else { return };
        stats.requests += 1;
        let (cursor, progress) = (Arc::new(ChunkCursor::new(&run)), Arc::<RequestProgress>::default());
        let fetch = Fetch {
            request,
            source,
            client: self.engine.client.clone(),
            url: stats.location.url.clone(),
            token: self.plan.token.token.clone(),
            file: self.plan.manifest.file,
            layout: self.layout,
            digests: run.clone().filter_map(|chunk| digest(&self.plan, chunk)).collect(),
            run,
            cursor: Arc::clone(&cursor),
            progress: Arc::clone(&progress),
            rate_limiter: self.engine.settings.rate_limiter.clone(),
            zone: stats.location.zone.clone(),
            sink: Arc::clone(&self.sink),
            partial_chunks: Arc::clone(&self.partial_chunks),
            events: self.event_sender.clone(),
        };
        let task = self.requests.spawn(fetch.run());
        self.request_of_task.insert(task.id(), request);
        self.in_flight.insert(request, InFlightRequest { source, cursor, progress, task });
    }

    pub(super) fn handle_event(&mut self, event: RequestEvent) {
        let now = self.now();
        match event {
            RequestEvent::Answered(request) => self.schedule.answered(request, now),
            RequestEvent::Verified { request, chunk, faulty } => {
                faulty.into_iter().for_each(|source| self.drop_faulty(source, chunk));
                let has_recovered = self.schedule.verified(request, chunk, now);
                let Some(running) = self.in_flight.get(&request) else { return };
                let Some(source) = self.sources.get_mut(running.source.index()) else { return };
                let bytes = self.layout.bytes_of_run(chunk..chunk + 1);
                source.bytes += bytes.end - bytes.start;
                source.has_refused = false;
                self.waiting = None;
                if has_recovered {
                    source.failing = None;
                    self.engine.progress.notice(Notice::Returned { server: source.location.server.clone() });
                }
            }
        }
    }

    pub(super) fn handle_ended_request(
        &mut self,
        joined: Result<(Id, Result<(), Failure>), JoinError>,
    ) -> Result<(), DownloadError> {
        // The events that the request sent before its end come first.
        while let Ok(event) = self.events.try_recv() {
            self.handle_event(event);
        }
        let (task, result) = match joined {
            Ok((task, Err(Failure::Storage(error)))) => {
                self.request_of_task.remove(&task);
                return Err(self.sink.explain(error).into());
            }
            Ok((task, result)) => (task, Some(result)),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (error.id(), Some(Err(Failure::Answer("its response could not be handled".into())))),
        };
        let Some(request) = self.request_of_task.remove(&task) else { return Ok(()) };
        let Some(running) = self.in_flight.remove(&request) else { return Ok(()) };
        let outcome = match result {
            None => RequestOutcome::Abandoned,
            Some(Ok(())) => RequestOutcome::Finished,
            // A server ends a connection whose client takes nothing for long.
            Some(Err(failure)) if breaks_off(&failure) && self.schedule.is_limited(request, self.now()) => {
                RequestOutcome::Abandoned
            }
            Some(Err(failure)) => RequestOutcome::Failed(self.record_failure(running.source, &failure)),
        };
        let (now, received) = (self.now(), running.progress.arrived());
        self.schedule.set_preserved_bytes(request, |chunk| self.partial_chunks.bytes(chunk, running.source));
        if let Some(source) = self.source_mut(running.source) {
            source.received = source.received.saturating_add(received);
        }
        let left = self.schedule.ended(request, outcome, received, now);
        if outcome == RequestOutcome::Abandoned {
            self.record_abandoned(running.source, left);
        }
        if self.schedule.is_set_aside(running.source)
            && let Some(source) = self.source_mut(running.source)
        {
            source.failing = Some(NEVER_FINISHES.to_owned());
        }
        Ok(())
    }

    /// Drops a source that had given wrong bytes of a chunk that is verified now.
    fn drop_faulty(&mut self, source: SourceId, chunk: u32) {
        self.schedule.expose(source, self.now());
        self.partial_chunks.forget(source);
        let Some(source) = self.sources.get_mut(source.index()).filter(|source| source.dropped.is_none()) else {
            return;
        };
        source.failures += 1;
        source.dropped = Some(Failure::WrongPart { chunk }.to_string());
        source.wrong_chunk = Some(chunk);
        let (client, token) = (&self.engine.client, &self.plan.token.token);
        self.mismatch_reports.send(client, &source.location.url, token, chunk);
        let server = source.location.server.clone();
        self.engine.progress.notice(Notice::WrongBytes { server, chunk });
    }

    /// Counts a failure and notifies the user. Returns what it says about the source.
    fn record_failure(&mut self, source: SourceId, failure: &Failure) -> SourceFault {
        let fault = failure.fault();
        if fault == SourceFault::WrongBytes {
            self.partial_chunks.forget(source);
        }
        let Some(source) = self.sources.get_mut(source.index()) else { return fault };
        let server = source.location.server.clone();
        tracing::debug!(%server, %failure, "A request to server {server} failed");
        if fault == SourceFault::WrongMixedChunk {
            return fault;
        }
        source.failures += 1;
        if let Failure::WrongBytes { chunk } = failure {
            source.dropped = Some(failure.to_string());
            source.wrong_chunk = Some(*chunk);
            let (client, token) = (&self.engine.client, &self.plan.token.token);
            self.mismatch_reports.send(client, &source.location.url, token, *chunk);
            self.engine.progress.notice(Notice::WrongBytes { server, chunk: *chunk });
            return fault;
        }
        let is_new = source.failing.replace(failure.to_string()).is_none();
        // After a second refusal the token is not at fault: new tokens would be requested without end.
        let is_refusal = fault == SourceFault::TokenRefused;
        let is_first_refusal = is_refusal && !std::mem::replace(&mut source.has_refused, true);
        let reason = failure.to_string();
        if is_first_refusal {
            self.engine.progress.notice(Notice::Refused { server, reason });
        } else if is_new {
            self.engine.progress.notice(Notice::Lost { server, reason });
        }
        if is_refusal && !is_first_refusal { SourceFault::Broken } else { fault }
    }

    /// Counts a request that was abandoned because it was late.
    fn record_abandoned(&mut self, source: SourceId, chunks: u32) {
        let (is_failing, silence) = (self.schedule.is_failing(source), self.schedule.silence(source));
        let Some(stats) = self.source_mut(source) else { return };
        if !is_failing || stats.dropped.is_some() {
            self.count_moved(source, chunks);
            return;
        }
        stats.failures += 1;
        // An error of an earlier request says more.
        if stats.failing.is_none() {
            let reason = match silence {
                Some(silence) => format!("it has sent nothing for {:.1} s", silence.as_secs_f64()),
                None => "it sent next to nothing".to_owned(),
            };
            let server = stats.location.server.clone();
            stats.failing = Some(reason.clone());
            self.engine.progress.notice(Notice::Lost { server, reason });
        }
    }
}

/// Returns true if a failure is the end of a connection, which either side may cause.
fn breaks_off(failure: &Failure) -> bool {
    matches!(failure, Failure::Connection(_) | Failure::Short { .. })
}

fn digest(plan: &DownloadPlan, chunk: u32) -> Option<Digest> {
    plan.manifest.chunks.get(usize::try_from(chunk).ok()?).copied().flatten()
}
