//! The place of a lease's chunks on this server.

use std::{collections::BTreeMap, sync::Arc};

use chunk_store::{Allocation, Blob, BlobError, VolumeState};
use wire::{
    ChunkLayout, Digest, JobId,
    job::{JobReason, Lease, LeaseReport, SpanFailure, SpanPurpose},
};

use crate::state::AppState;

/// The blob of a lease's chunks, and those that it has already.
pub(super) struct LeaseTarget {
    /// Absent when chunks are only hashed.
    pub(super) blob: Option<Arc<Blob>>,
    pub(super) layout: ChunkLayout,
    pub(super) held: BTreeMap<u32, Digest>,
}

/// Finds or creates the blob of a lease's file, unless its chunks are only hashed.
pub(super) async fn prepare(state: &AppState, job: JobId, lease: &Lease) -> Result<LeaseTarget, BlobError> {
    let layout = ChunkLayout::checked(lease.size, lease.chunk_size).map_err(|_| BlobError::LayoutConflict)?;
    if lease.span.end() > layout.count() {
        return Err(BlobError::LayoutConflict);
    }
    if lease.purpose == SpanPurpose::Check {
        return Ok(LeaseTarget { blob: None, layout, held: BTreeMap::new() });
    }
    if state.blobs.volume().state() == VolumeState::LowSpace {
        return Err(BlobError::full());
    }
    let blob = state.blobs.find_or_create_with(lease.file, layout, Allocation::Sparse).await?;
    state.db.add_job_file(lease.file, job).await?;
    let held = if blob.progress().0.gaps(lease.span.range()).len() < lease.span.end() - lease.span.start() {
        state.db.chunk_digests(lease.file).await?
    } else {
        Vec::new()
    };
    let held = held.into_iter().filter(|held| lease.span.range().contains(&held.chunk));
    Ok(LeaseTarget { blob: Some(blob), layout, held: held.map(|held| (held.chunk, held.digest)).collect() })
}

/// Gives a lease back that cannot even be begun.
pub(super) async fn give_back(state: &AppState, job: JobId, lease: &Lease, error: &BlobError) {
    tracing::warn!(%job, file = %lease.file, %error, "A span of job {job} cannot be stored here");
    let failed = Some(SpanFailure { reason: JobReason::WorkersFailed, retry_after_s: None });
    let report = LeaseReport { failed, ..LeaseReport::default() };
    // Without this report the lease expires.
    let _ = state.info.renew_lease(job, lease.fence, &report).await;
}
