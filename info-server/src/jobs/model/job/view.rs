//! The public view of a job: what people and programs see of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use wire::{
    ChunkSet, ServerId, Zone,
    job::{Checked, FetchedChunk, JobInfo, JobState, WorkerInfo, WorkerState},
};

use super::Job;
use crate::jobs::model::worker_table::{Worker, WorkerIdx};

/// Time after which a worker that is not seen does not count as waiting for work any more.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// The zones of all servers that ever enrolled.
pub(crate) type ServerZones = BTreeMap<ServerId, Zone>;

impl Job {
    /// Returns the public view; `zones` is asked for workers that were not seen since the start of the info-server.
    pub(crate) fn info(&self, now: Instant, zones: &ServerZones) -> JobInfo {
        let (record, content) = (&self.record, self.record.content.as_ref());
        let retry = record.start_retry.filter(|_| record.state == JobState::Scheduled);
        JobInfo {
            id: record.id,
            url: record.url.clone(),
            name: record.name.clone(),
            state: record.state,
            reason: record.reason.or(retry.map(|retry| retry.reason)),
            next_try: retry.map(|retry| retry.next_attempt),
            file: content.map(|content| content.file),
            formerly: record.previous_files.clone(),
            size: content.map(|content| content.size),
            chunk_size: content.map(|content| content.chunk_size),
            validator: content.map(|content| content.validator.clone()),
            sha256: record.computed_sha256.or(record.expected_sha256()),
            checked: content.map(|_| self.checked()),
            generation: record.generation,
            connections: record.connections,
            start_at: record.start_at,
            created_at: record.created_at,
            keep: record.keep,
            expires_at: record.expires_at,
            chunks: self.layout().map_or(0, |layout| layout.count()),
            fetched: self.fetched_count(),
            workers: self.worker_infos(now, zones),
            requesters: u32::try_from(self.requesters.present_count()).unwrap_or(u32::MAX),
        }
    }

    /// Returns the number of chunks that some worker fetched, or every requester has.
    fn fetched_count(&self) -> u32 {
        // A digest carried over from an earlier attempt does not count as fetched: no worker holds the bytes.
        let fetched = self
            .chunks
            .iter()
            .filter(|(n, chunk)| chunk.digest.is_some() && (chunk.first.is_some() || self.requesters.all_have(*n)));
        u32::try_from(fetched.count()).unwrap_or(u32::MAX)
    }

    /// Returns the way in which the result was checked, or is to be.
    fn checked(&self) -> Checked {
        if let Some((_, source)) = self.record.expected {
            return source;
        }
        let compared = self.chunks.iter().any(|(_, chunk)| chunk.confirmed);
        let ended = matches!(self.record.state, JobState::Done | JobState::Stopped);
        if compared || !ended { Checked::Sampled } else { Checked::Unchecked }
    }

    fn worker_infos(&self, now: Instant, zones: &ServerZones) -> Vec<WorkerInfo> {
        let mut reported: BTreeMap<WorkerIdx, u32> = BTreeMap::new();
        for first in self.chunks.iter().filter_map(|(_, chunk)| chunk.first) {
            *reported.entry(first).or_default() += 1;
        }
        let info = |(idx, worker): (WorkerIdx, &Worker)| {
            let zone = worker.zone.as_ref().or_else(|| zones.get(&worker.server))?.clone();
            let spans = self.leases.of_worker(idx).map(|(_, lease)| lease.span());
            let spans: ChunkSet = spans.filter(|span| !span.is_empty()).collect();
            let state = self.worker_state(worker, !spans.is_empty(), now);
            let rate = if state == WorkerState::Fetching { worker.rate.whole() } else { 0 };
            let chunks = reported.get(&idx).copied().unwrap_or(0);
            Some(WorkerInfo { server: worker.server.clone(), zone, state, spans, chunks, bytes: worker.bytes, rate })
        };
        let mut infos: Vec<WorkerInfo> = self.workers.iter().filter_map(info).collect();
        infos.sort_by(|a, b| a.server.cmp(&b.server));
        infos
    }

    fn worker_state(&self, worker: &Worker, has_span: bool, now: Instant) -> WorkerState {
        if worker.excluded {
            WorkerState::Excluded
        } else if !worker.live {
            WorkerState::Gone
        } else if has_span {
            WorkerState::Fetching
        } else if worker.was_seen_within(GONE_AFTER, now) || !self.is_open() {
            WorkerState::Waiting
        } else {
            WorkerState::Gone
        }
    }

    /// Returns the digests of the chunks that changed after a revision of the chunk table.
    pub(crate) fn chunks_since(&self, revision: u64) -> Vec<FetchedChunk> {
        let fetched = self.chunks.iter().filter_map(|(n, chunk)| {
            let sha256 = chunk.digest.filter(|_| chunk.revision > revision && !self.verifier.has_conflict(n))?;
            let holder = chunk.holder.filter(|holder| self.workers.is_live(*holder));
            Some(FetchedChunk { n, sha256, server: self.workers.server(holder) })
        });
        fetched.collect()
    }
}
