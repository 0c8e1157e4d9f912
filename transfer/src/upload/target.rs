//! One server that receives an upload.

mod put;
mod stall_detector;

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use wire::{ChunkSet, ServerId, catalogue::UploadTarget, server::HeldChunks, token::Token};

pub(super) use self::put::{PutFailure, PutRequest, PutResult};
use self::stall_detector::StallDetector;
use super::{report::TargetReport, upload_chunk::UploadChunk};
use crate::source::Failure;

/// Time that a target may take to list the chunks that it holds.
const HELD_CHUNKS_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest list of held chunks: more than the list of all chunks needs.
const MAX_HELD_CHUNKS_LEN: usize = 512 << 10;

/// The position of a target in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetIdx(usize);

impl TargetIdx {
    pub(super) const fn new(index: usize) -> Self {
        Self(index)
    }

    pub(super) const fn index(self) -> usize {
        self.0
    }
}

/// A target with its progress.
#[derive(Debug)]
pub(super) struct TargetState {
    target: UploadTarget,
    held: ChunkSet,
    sent_bytes: u64,
    resumed_bytes: u64,
    failure: Option<PutFailure>,
    stall_detector: Arc<StallDetector>,
    requests_in_flight: u32,
}

impl TargetState {
    pub(super) fn new(target: UploadTarget) -> Self {
        Self {
            target,
            held: ChunkSet::new(),
            sent_bytes: 0,
            resumed_bytes: 0,
            failure: None,
            stall_detector: Arc::default(),
            requests_in_flight: 0,
        }
    }

    pub(super) const fn server(&self) -> &ServerId {
        &self.target.server
    }

    pub(super) fn is_live(&self) -> bool {
        self.failure.is_none()
    }

    /// Returns the reason for which the target makes no progress, if it makes none.
    pub(super) fn stall(&self) -> Option<String> {
        self.stall_detector.stall()
    }

    pub(super) fn give_up(&mut self, reason: String) {
        self.failure = Some(reason.into());
    }

    /// Returns its name and its failure, if it failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| format!("{}: {}", self.target.server, failure.reason))
    }

    /// Returns true if the target failed because it has no space left.
    pub(super) fn lacks_room(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.no_room)
    }

    pub(super) fn report(self) -> TargetReport {
        let Self { target, sent_bytes, resumed_bytes, failure, .. } = self;
        let failure = failure.map(|failure| failure.reason);
        TargetReport { server: target.server, sent: sent_bytes, resumed: resumed_bytes, failure }
    }

    /// Asks which chunks the target holds. A target that does not answer receives everything.
    pub(super) async fn ask_held_chunks(&mut self, client: &reqwest::Client, token: &Token) {
        let server = &self.target.server;
        match tokio::time::timeout(HELD_CHUNKS_TIMEOUT, held_chunks(client, &self.target, token)).await {
            Ok(Ok(held)) => self.held = held,
            Ok(Err(failure)) => {
                tracing::debug!(%server, %failure, "Server {server} gave no list of held chunks: sending all");
            }
            Err(_) => tracing::debug!(%server, "Server {server} gave no list of held chunks in time: sending all"),
        }
    }

    /// Returns the request that sends a chunk to the target, unless it failed or holds the chunk.
    pub(super) fn put(&mut self, chunk: &UploadChunk, client: &reqwest::Client, token: &Token) -> Option<PutRequest> {
        if self.held.contains(chunk.index.get()) {
            self.resumed_bytes += chunk.len;
            return None;
        }
        if !self.is_live() {
            return None;
        }
        if self.requests_in_flight == 0 {
            // Before this request the target could not make progress.
            self.stall_detector.progressed();
        }
        self.requests_in_flight += 1;
        let url = format!("{}/{}", self.target.url.as_str().trim_end_matches('/'), chunk.index);
        let (client, token) = (client.clone(), token.clone());
        let stall_detector = Arc::clone(&self.stall_detector);
        Some(PutRequest::new(url, chunk.clone(), client, token, stall_detector))
    }

    /// Counts an ended request. Returns the failure of the target, if it failed just now.
    pub(super) fn request_ended(&mut self, len: u64, result: PutResult) -> Option<String> {
        self.requests_in_flight = self.requests_in_flight.saturating_sub(1);
        match result {
            Some(Ok(())) => self.sent_bytes += len,
            Some(Err(failure)) if self.is_live() => {
                self.failure = Some(failure.clone());
                return Some(failure.reason);
            }
            Some(Err(_)) | None => {}
        }
        None
    }
}

async fn held_chunks(client: &reqwest::Client, target: &UploadTarget, token: &Token) -> Result<ChunkSet, Failure> {
    let mut response = client.get(target.url.clone()).bearer_auth(token.expose()).send().await?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Answer(format!("status {}", response.status().as_u16())));
    }
    let mut text = Vec::new();
    while let Some(part) = response.chunk().await? {
        text.extend_from_slice(&part);
        if text.len() > MAX_HELD_CHUNKS_LEN {
            return Err(Failure::Answer("the list of held chunks does not end".into()));
        }
    }
    let held: HeldChunks = serde_json::from_slice(&text).map_err(|error| Failure::Answer(error.to_string()))?;
    Ok(held.runs)
}
