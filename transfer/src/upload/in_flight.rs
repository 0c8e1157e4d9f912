//! The requests of an upload that are in flight.

use std::collections::{BTreeMap, HashMap};

use tokio::task::{AbortHandle, Id, JoinSet};

use super::{
    target::{PutFailure, PutRequest, PutResult, TargetIdx},
    upload_chunk::UploadChunk,
};

/// Requests in flight, by target and chunk.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    tasks: JoinSet<Result<(), PutFailure>>,
    requests: HashMap<Id, InFlightRequest>,
    /// Per chunk, the number of its requests in flight.
    requests_per_chunk: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct InFlightRequest {
    target: TargetIdx,
    chunk: u32,
    len: u64,
    task: AbortHandle,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct CompletedRequest {
    pub(super) target: TargetIdx,
    /// Bytes in the chunk.
    pub(super) len: u64,
    pub(super) result: PutResult,
    /// Set for the last request of its chunk.
    pub(super) is_last: bool,
}

impl InFlight {
    /// Returns how many chunks are in flight.
    pub(super) fn chunks(&self) -> usize {
        self.requests_per_chunk.len()
    }

    /// Returns true if a request to this target is in flight.
    pub(super) fn is_busy(&self, target: TargetIdx) -> bool {
        self.requests.values().any(|request| request.target == target)
    }

    pub(super) fn start(&mut self, chunk: &UploadChunk, requests: Vec<(TargetIdx, PutRequest)>) {
        let (index, len) = (chunk.index.get(), chunk.len);
        self.requests_per_chunk.insert(index, requests.len());
        for (target, request) in requests {
            let task = self.tasks.spawn(request.run());
            self.requests.insert(task.id(), InFlightRequest { target, chunk: index, len, task });
        }
    }

    pub(super) fn abort(&self, target: TargetIdx) {
        self.requests.values().filter(|request| request.target == target).for_each(|request| request.task.abort());
    }

    /// Waits for the next request to end; for ever when none is in flight.
    pub(super) async fn next_completed(&mut self) -> CompletedRequest {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, result))) => (id, Some(result)),
                Some(Err(error)) if error.is_cancelled() => (error.id(), None),
                Some(Err(error)) => (error.id(), Some(Err("its response could not be handled".to_owned().into()))),
                None => std::future::pending().await,
            };
            let Some(InFlightRequest { target, chunk, len, .. }) = self.requests.remove(&id) else { continue };
            let left = self.requests_per_chunk.get(&chunk).map_or(0, |left| left.saturating_sub(1));
            if left == 0 {
                self.requests_per_chunk.remove(&chunk);
            } else {
                self.requests_per_chunk.insert(chunk, left);
            }
            return CompletedRequest { target, len, result, is_last: left == 0 };
        }
    }
}
