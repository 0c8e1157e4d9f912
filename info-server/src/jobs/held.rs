//! What workers hold by their own word. Pure.
//!
//! A worker that was started again may have lost what it held: until it said what it holds since, it is told of the job, also when
//! nothing is to be done.

use std::collections::BTreeMap;

use wire::{Runs, ServerId};

use super::{
    job::{Job, Moment},
    row::Shelf,
    ticks::Alive,
};

impl Job {
    /// Takes in what a worker holds of the file: chunks that it was thought to hold beyond that are held by nobody.
    pub(crate) fn holds_only(&mut self, seat: usize, held: &Runs, now: Moment) {
        if !self.is_open() {
            return;
        }
        let lost = (0_u32..).zip(&self.chunks).filter(|(n, chunk)| chunk.holder == Some(seat) && !held.contains(*n));
        let lost: Vec<u32> = lost.map(|(n, _)| n).collect();
        if lost.is_empty() {
            return;
        }
        if let Some(worker) = self.workers.get(seat) {
            let chunks = lost.len();
            tracing::warn!(job = %self.id(), server = %worker.server, chunks, "a worker lost chunks that it held");
        }
        for n in lost {
            self.change(n, |chunk| chunk.holder = None, now.at);
        }
        self.settle(now);
    }

    /// Whether a live worker that holds something was started again and has not told since what it holds.
    pub(crate) fn doubts_a_holder(&self, live: &BTreeMap<ServerId, Alive>) -> bool {
        if !self.is_open() || self.row.shelf >= Shelf::Published {
            return false;
        }
        let doubted = |(seat, worker): (usize, &super::job::Worker)| {
            let anew = live.get(&worker.server).is_some_and(|alive| worker.told_by != Some(alive.instance));
            anew && !worker.excluded && self.chunks.iter().any(|chunk| chunk.holder == Some(seat))
        };
        self.workers.iter().enumerate().any(doubted)
    }
}
