//! The chunks that workers hold by their own report.
//!
//! A worker that was started again may have lost what it held: until it has reported its inventory, it gets hints of the job, also when
//! there is nothing to fetch.

use wire::{ChunkSet, ServerId, grammar::counted};

use super::Job;
use crate::jobs::model::{
    moment::Moment,
    worker_table::{LiveServers, Worker, WorkerIdx},
};

impl Job {
    /// Takes in what a worker holds of the file, if it reports that: chunks that it held beyond that have no holder any more.
    pub(crate) fn note_inventory(
        &mut self,
        server: &ServerId,
        instance: wire::id::InstanceId,
        held: Option<&ChunkSet>,
        now: Moment,
    ) {
        let Some(worker) = self.workers.find(server) else { return };
        if let Some(held) = held {
            self.drop_lost_chunks(worker, held, now);
        }
        self.workers.note_inventory(server, instance);
    }

    fn drop_lost_chunks(&mut self, worker: WorkerIdx, held: &ChunkSet, now: Moment) {
        if !self.is_open() {
            return;
        }
        let lost: Vec<u32> = self.chunks.held_by(worker).into_iter().filter(|n| !held.contains(*n)).collect();
        if lost.is_empty() {
            return;
        }
        if let Some(server) = self.workers.server(Some(worker)) {
            let chunks = lost.len();
            tracing::warn!(job = %self.id(), %server, chunks, "Worker {server} lost {} that it held", counted(chunks, "chunk"));
        }
        for n in lost {
            self.chunks.drop_holder(n);
            self.refresh_chunk(n, now.at);
        }
        self.update_state(now);
    }

    /// Returns true if a live worker that holds chunks was started again and has not reported its inventory since.
    pub(crate) fn has_unconfirmed_holder(&self, live: &LiveServers) -> bool {
        if !self.is_open() || self.is_published() {
            return false;
        }
        let is_unconfirmed = |(idx, worker): (WorkerIdx, &Worker)| {
            let instance = live.get(&worker.server).map(|server| server.instance);
            let restarted = instance.is_some() && worker.inventory_of != instance;
            restarted && !worker.excluded && self.chunks.iter().any(|(_, chunk)| chunk.holder == Some(idx))
        };
        self.workers.iter().any(is_unconfirmed)
    }
}
