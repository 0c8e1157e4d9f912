//! The workers of a job: file servers that asked for a span, or that hold chunks of it.
//!
//! Invariant: a worker keeps its [`WorkerIdx`] for the life of the job, and an excluded worker stays excluded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use wire::{ServerId, Zone, id::InstanceId};

use super::{
    record::{JobChanges, WorkerRecord},
    transfer_rate::TransferRate,
};

/// Failures in a row after which a worker gets no more spans of the job.
const MAX_CONSECUTIVE_FAILURES: u32 = 3;
/// The rest after a failure is this long, times the failures in a row.
const FAILURE_REST: Duration = Duration::from_millis(500);

/// A worker that claimed or reported this lately waits for work, and needs no hint.
const ATTENTION_SPAN: Duration = Duration::from_secs(3);

/// The position of a worker in the [`WorkerTable`] of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkerIdx(usize);

/// A file server whose registration lease runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveServer {
    pub(crate) zone: Zone,
    /// Changes with every start of the process.
    pub(crate) instance: InstanceId,
}

/// The file servers whose registration lease runs.
pub(crate) type LiveServers = BTreeMap<ServerId, LiveServer>;

/// A file server that works on the job.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) server: ServerId,
    /// None until the worker is seen after a start of the info-server.
    pub(crate) zone: Option<Zone>,
    pub(crate) live: bool,
    pub(crate) excluded: bool,
    /// Failures since the last chunk.
    pub(crate) failures: u32,
    /// Bytes that it reports to have taken from the origin.
    pub(crate) bytes: u64,
    pub(crate) rate: TransferRate,
    /// The time of its last claim or report.
    pub(crate) last_seen: Option<Instant>,
    /// The start of the process that reported its inventory.
    pub(crate) inventory_of: Option<InstanceId>,
    /// Time before which it gets no work, after a failure.
    pub(crate) rests_until: Option<Instant>,
}

impl Worker {
    fn new(server: ServerId) -> Self {
        Self {
            server,
            zone: None,
            live: false,
            excluded: false,
            failures: 0,
            bytes: 0,
            rate: TransferRate::default(),
            last_seen: None,
            inventory_of: None,
            rests_until: None,
        }
    }

    /// Returns true if the worker claimed or reported less than `age` ago.
    pub(crate) fn was_seen_within(&self, age: Duration, now: Instant) -> bool {
        self.last_seen.is_some_and(|seen| now.saturating_duration_since(seen) < age)
    }

    /// Returns true if the worker claimed or reported so lately that it would take what is there for it.
    pub(crate) fn is_attentive(&self, now: Instant) -> bool {
        self.was_seen_within(ATTENTION_SPAN, now)
    }

    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    const fn is_eligible(&self) -> bool {
        self.live && !self.excluded
    }

    fn record(&self) -> WorkerRecord {
        let Self { server, excluded, failures, bytes, .. } = self;
        WorkerRecord { server: server.clone(), excluded: *excluded, failures: *failures, bytes: *bytes }
    }
}

/// All workers of a job.
#[derive(Debug, Default)]
pub(crate) struct WorkerTable {
    workers: Vec<Worker>,
    changed: BTreeSet<WorkerIdx>,
}

impl WorkerTable {
    pub(crate) fn restore(&mut self, record: WorkerRecord) {
        let idx = self.find_or_insert(&record.server);
        if let Some(worker) = self.get_mut(idx) {
            worker.excluded = record.excluded;
            worker.failures = record.failures;
            worker.bytes = record.bytes;
            // No worker counts as dead before one lease has passed.
            worker.live = true;
        }
    }

    pub(crate) fn get(&self, idx: WorkerIdx) -> Option<&Worker> {
        self.workers.get(idx.0)
    }

    fn get_mut(&mut self, idx: WorkerIdx) -> Option<&mut Worker> {
        self.workers.get_mut(idx.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerIdx, &Worker)> {
        self.workers.iter().enumerate().map(|(n, worker)| (WorkerIdx(n), worker))
    }

    pub(crate) fn find(&self, server: &ServerId) -> Option<WorkerIdx> {
        self.workers.iter().position(|worker| worker.server == *server).map(WorkerIdx)
    }

    pub(crate) fn find_or_insert(&mut self, server: &ServerId) -> WorkerIdx {
        if let Some(idx) = self.find(server) {
            return idx;
        }
        let idx = WorkerIdx(self.workers.len());
        self.workers.push(Worker::new(server.clone()));
        self.changed.insert(idx);
        idx
    }

    pub(crate) fn by_server(&self, server: &ServerId) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.server == *server)
    }

    pub(crate) fn server(&self, idx: Option<WorkerIdx>) -> Option<ServerId> {
        Some(self.get(idx?)?.server.clone())
    }

    /// Returns true if chunks can be taken from a worker; also from one that failed too often to be given more.
    pub(crate) fn is_live(&self, idx: WorkerIdx) -> bool {
        self.get(idx).is_some_and(|worker| worker.live)
    }

    /// Returns true if a worker may be given a span.
    pub(crate) fn is_eligible(&self, idx: WorkerIdx) -> bool {
        self.get(idx).is_some_and(Worker::is_eligible)
    }

    /// Returns the number of workers that may share the rest, at least 1.
    pub(crate) fn eligible_count(&self) -> u32 {
        let eligible = self.workers.iter().filter(|worker| worker.is_eligible()).count();
        u32::try_from(eligible).unwrap_or(u32::MAX).max(1)
    }

    /// Returns true if an eligible worker is attentive, other than the excepted ones.
    pub(crate) fn has_attentive(&self, except: impl Fn(WorkerIdx) -> bool, now: Instant) -> bool {
        self.iter().any(|(idx, worker)| worker.is_eligible() && !except(idx) && worker.is_attentive(now))
    }

    pub(crate) fn rate(&self, idx: WorkerIdx) -> f64 {
        self.get(idx).map_or(0.0, |worker| worker.rate.value())
    }

    /// Notes which start of a worker reported its inventory.
    pub(crate) fn note_inventory(&mut self, server: &ServerId, instance: InstanceId) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.server == *server) {
            worker.inventory_of = Some(instance);
        }
    }

    /// Takes a worker in, or in another zone than before; returns true if that is news.
    pub(crate) fn admit(&mut self, idx: WorkerIdx, server: &LiveServer) -> bool {
        let Some(worker) = self.get_mut(idx) else { return false };
        if worker.live && worker.zone.as_ref() == Some(&server.zone) {
            return false;
        }
        (worker.live, worker.zone) = (true, Some(server.zone.clone()));
        worker.inventory_of = Some(server.instance);
        true
    }

    /// Notes a claim; `idle` is set if the worker had no lease, so that its rate is measured from here on.
    pub(crate) fn note_claim(&mut self, idx: WorkerIdx, idle: bool, now: Instant) {
        if let Some(worker) = self.get_mut(idx) {
            if idle {
                worker.rate.begin(now);
            }
            worker.last_seen = Some(now);
        }
    }

    /// Notes a report, and how many of its bytes are new.
    pub(crate) fn note_report(&mut self, idx: WorkerIdx, new_bytes: u64, now: Instant) {
        self.changed.insert(idx);
        if let Some(worker) = self.get_mut(idx) {
            worker.last_seen = Some(now);
            worker.bytes = worker.bytes.saturating_add(new_bytes);
            worker.rate.add(new_bytes, now);
        }
    }

    /// Notes a fetched or compared chunk: the failures in a row end.
    pub(crate) fn note_chunk(&mut self, idx: WorkerIdx) {
        self.changed.insert(idx);
        if let Some(worker) = self.get_mut(idx) {
            worker.failures = 0;
        }
    }

    pub(crate) fn rest(&mut self, idx: WorkerIdx, until: Instant) {
        if let Some(worker) = self.get_mut(idx) {
            worker.rests_until = Some(until);
        }
    }

    /// Counts a failure against a worker; returns true if the worker is excluded by it.
    pub(crate) fn note_failure(&mut self, idx: WorkerIdx, now: Instant) -> bool {
        self.changed.insert(idx);
        // Leases of a worker that fail together, as both do when its line breaks, are one failure.
        let Some(worker) = self.get_mut(idx).filter(|worker| !worker.rests(now)) else { return false };
        worker.failures += 1;
        worker.rests_until = Some(now + FAILURE_REST * worker.failures.min(MAX_CONSECUTIVE_FAILURES));
        let excluded_now = worker.failures >= MAX_CONSECUTIVE_FAILURES && !worker.excluded;
        worker.excluded |= excluded_now;
        excluded_now
    }

    /// Excludes a worker; returns its server.
    pub(crate) fn exclude(&mut self, idx: WorkerIdx) -> Option<ServerId> {
        self.changed.insert(idx);
        let worker = self.get_mut(idx)?;
        worker.excluded = true;
        Some(worker.server.clone())
    }

    /// Compares the table with the live servers; returns the workers that died or came back.
    pub(crate) fn update_liveness(&mut self, live: &LiveServers) -> Vec<WorkerIdx> {
        let mut changed = Vec::new();
        for (n, worker) in self.workers.iter_mut().enumerate() {
            let server = live.get(&worker.server);
            if let Some(server) = server {
                worker.zone = Some(server.zone.clone());
            }
            if worker.live != server.is_some() {
                worker.live = server.is_some();
                changed.push(WorkerIdx(n));
            }
        }
        changed
    }

    pub(crate) fn discard_changes(&mut self) {
        self.changed.clear();
    }

    pub(crate) fn take_changes(&mut self, into: &mut JobChanges) {
        let changed = std::mem::take(&mut self.changed);
        into.workers = changed.into_iter().filter_map(|idx| self.get(idx)).map(Worker::record).collect();
    }

    #[cfg(test)]
    pub(crate) fn mark_all(&mut self) {
        self.changed = (0..self.workers.len()).map(WorkerIdx).collect();
    }
}
