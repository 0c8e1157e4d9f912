//! Requests to origins that a decision demands: probes, and chunks that decide conflicts. They run beside the task that owns all
//! jobs, which takes their results in as it does any other request.

use std::{pin::Pin, sync::Arc};

use wire::{Digest, JobId};

use super::{
    context::JobsContext,
    model::{effect::Effect, job::Job},
    origin_probe::{ChunkRequest, ProbeOutcome},
};

/// The result of a background request.
#[derive(Debug)]
pub(super) enum BackgroundResult {
    /// An origin was probed.
    Probed { job: JobId, outcome: Box<ProbeOutcome> },
    /// A chunk in conflict was fetched; no digest if that failed.
    Fetched { job: JobId, n: u32, digest: Option<Digest> },
}

/// A request that runs.
pub(super) type BackgroundRequest = Pin<Box<dyn Future<Output = BackgroundResult> + Send>>;

/// Returns the request that an effect demands, if it demands one.
pub(super) fn request_for(effect: &Effect, context: &Arc<JobsContext>, job: &Job) -> Option<BackgroundRequest> {
    match effect {
        Effect::ProbeOrigin => Some(probe(context.clone(), job)),
        Effect::Arbitrate(n) => Some(fetch_chunk(context.clone(), job, *n)),
        _ => None,
    }
}

fn probe(context: Arc<JobsContext>, job: &Job) -> BackgroundRequest {
    let (id, record) = (job.id(), job.record());
    let (owner, url, digest_known) = (record.owner, record.url.clone(), record.expected.is_some());
    Box::pin(async move {
        let outcome = context.handle.origin_probe().probe(owner, &url, digest_known).await;
        BackgroundResult::Probed { job: id, outcome: Box::new(outcome) }
    })
}

fn fetch_chunk(context: Arc<JobsContext>, job: &Job, n: u32) -> BackgroundRequest {
    let (id, request) = (job.id(), ChunkRequest::new(job.record(), n));
    Box::pin(async move {
        let digest = match request {
            Some(request) => context.handle.origin_probe().chunk_digest(&request).await,
            None => None,
        };
        BackgroundResult::Fetched { job: id, n, digest }
    })
}
