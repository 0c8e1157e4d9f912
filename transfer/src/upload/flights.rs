//! The requests of an upload that are on their way.

use std::collections::{BTreeMap, HashMap};

use tokio::task::{AbortHandle, Id, JoinSet};

use super::{piece::Piece, target::Put};

/// What became of a chunk at a target; nothing when the request was aborted.
pub(super) type PutResult = Option<Result<(), String>>;

/// Requests that run, by target and chunk.
#[derive(Debug, Default)]
pub(super) struct Flights {
    running: JoinSet<Result<(), String>>,
    flights: HashMap<Id, Flight>,
    /// How many requests each chunk still has.
    chunks: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct Flight {
    seat: usize,
    chunk: u32,
    len: u64,
    task: AbortHandle,
}

/// A request that ended.
#[derive(Debug)]
pub(super) struct Landed {
    /// The target, by its place in the plan.
    pub(super) seat: usize,
    /// Bytes in the chunk.
    pub(super) len: u64,
    pub(super) result: PutResult,
    /// Whether it was the chunk's last request.
    pub(super) last: bool,
}

impl Flights {
    /// Chunks that are on their way.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Whether anything is on its way to this target.
    pub(super) fn busy(&self, seat: usize) -> bool {
        self.flights.values().any(|flight| flight.seat == seat)
    }

    pub(super) fn launch(&mut self, piece: &Piece, puts: Vec<(usize, Put)>) {
        let (chunk, len) = (piece.chunk.get(), piece.len);
        self.chunks.insert(chunk, puts.len());
        for (seat, put) in puts {
            let task = self.running.spawn(put.run());
            self.flights.insert(task.id(), Flight { seat, chunk, len, task });
        }
    }

    pub(super) fn abort(&self, seat: usize) {
        self.flights.values().filter(|flight| flight.seat == seat).for_each(|flight| flight.task.abort());
    }

    /// Waits for the next request to end; for ever when none runs.
    pub(super) async fn landed(&mut self) -> Landed {
        loop {
            let (id, result) = match self.running.join_next_with_id().await {
                Some(Ok((id, result))) => (id, Some(result)),
                Some(Err(error)) if error.is_cancelled() => (error.id(), None),
                Some(Err(error)) => (error.id(), Some(Err("its answer could not be handled".to_owned()))),
                None => std::future::pending().await,
            };
            let Some(Flight { seat, chunk, len, .. }) = self.flights.remove(&id) else { continue };
            let left = self.chunks.get(&chunk).map_or(0, |left| left.saturating_sub(1));
            if left == 0 {
                self.chunks.remove(&chunk);
            } else {
                self.chunks.insert(chunk, left);
            }
            return Landed { seat, len, result, last: left == 0 };
        }
    }
}
