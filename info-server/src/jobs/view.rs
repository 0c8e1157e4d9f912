//! What people and programs see of a job. Pure.

use std::time::{Duration, Instant};

use wire::{
    Runs, Zone,
    job::{Checked, FetchedChunk, JobInfo, JobState, WorkerInfo, WorkerState},
};

use super::job::{Job, Worker};

/// A worker that was not heard of for so long does not wait for work any more.
const AWAY: Duration = Duration::from_secs(10);

impl Job {
    /// What is shown of it; `zone` of workers that were not seen since the start is told by `zone_of`.
    pub(crate) fn info(&self, now: Instant, zone_of: &dyn Fn(&wire::ServerId) -> Option<Zone>) -> JobInfo {
        let (row, content) = (&self.row, self.row.content.as_ref());
        let trying = row.trying.filter(|_| row.state == JobState::Scheduled);
        let there = |(n, chunk): &(u32, &super::job::Chunk)| {
            // A digest alone, left by an earlier attempt, is nothing that anybody could take.
            chunk.digest.is_some() && (chunk.first.is_some() || self.everyone_has(*n))
        };
        let fetched = (0_u32..).zip(&self.chunks).filter(there).count();
        JobInfo {
            id: row.id,
            url: row.url.clone(),
            name: row.name.clone(),
            state: row.state,
            reason: row.reason.or(trying.map(|trying| trying.reason)),
            next_try: trying.map(|trying| trying.next),
            file: content.map(|content| content.file),
            formerly: row.formerly.clone(),
            size: content.map(|content| content.size),
            chunk_size: content.map(|content| content.chunk_size),
            sha256: row.found.or(row.expected.map(|(sha256, _)| sha256)),
            checked: content.map(|_| self.checked()),
            generation: row.generation,
            connections: row.connections,
            start_at: row.start_at,
            created_at: row.created_at,
            keep: row.keep,
            expires_at: row.expires_at,
            chunks: content.and_then(|content| content.layout()).map_or(0, |layout| layout.count()),
            fetched: u32::try_from(fetched).unwrap_or(u32::MAX),
            workers: self.worker_infos(now, zone_of),
            askers: u32::try_from(self.present()).unwrap_or(u32::MAX),
        }
    }

    /// How the result was checked, or is to be.
    fn checked(&self) -> Checked {
        if let Some((_, by)) = self.row.expected {
            return by;
        }
        let compared = self.chunks.iter().any(|chunk| chunk.confirmed);
        let ended = matches!(self.row.state, JobState::Done | JobState::Stopped);
        if compared || !ended { Checked::Sampled } else { Checked::Unchecked }
    }

    fn worker_infos(&self, now: Instant, zone_of: &dyn Fn(&wire::ServerId) -> Option<Zone>) -> Vec<WorkerInfo> {
        let mut told = vec![0_u32; self.workers.len()];
        for chunk in &self.chunks {
            if let Some(count) = chunk.first.and_then(|first| told.get_mut(first)) {
                *count += 1;
            }
        }
        let info = |(seat, (worker, chunks)): (usize, (&Worker, u32))| {
            let zone = worker.zone.clone().or_else(|| zone_of(&worker.server))?;
            let leases = self.leases.values().filter(|lease| lease.seat == seat);
            let spans: Runs = leases.map(|lease| lease.span()).filter(|span| !span.is_empty()).collect();
            let lately = worker.seen.is_some_and(|seen| now.saturating_duration_since(seen) < AWAY);
            let state = match (worker.excluded, worker.live, spans.is_empty()) {
                (true, ..) => WorkerState::Excluded,
                (_, false, _) => WorkerState::Gone,
                (_, _, false) => WorkerState::Fetching,
                _ if lately || !self.is_open() => WorkerState::Waiting,
                _ => WorkerState::Gone,
            };
            let rate = if state == WorkerState::Fetching { worker.rate.whole() } else { 0 };
            Some(WorkerInfo { server: worker.server.clone(), zone, state, spans, chunks, bytes: worker.bytes, rate })
        };
        let mut infos: Vec<WorkerInfo> = self.workers.iter().zip(told).enumerate().filter_map(info).collect();
        infos.sort_by(|a, b| a.server.cmp(&b.server));
        infos
    }

    /// What is known of the chunks that changed after `version`.
    pub(crate) fn chunks_since(&self, version: u64) -> Vec<FetchedChunk> {
        let told = |(n, chunk): (u32, &super::job::Chunk)| {
            let sha256 = chunk.digest.filter(|_| chunk.version > version && !self.checks.is_disputed(n))?;
            let holder = chunk.holder.filter(|holder| self.serves(*holder));
            let server = holder.and_then(|holder| Some(self.workers.get(holder)?.server.clone()));
            Some(FetchedChunk { n, sha256, server })
        };
        (0_u32..).zip(&self.chunks).filter_map(told).collect()
    }
}
