//! Chunks of which a client or another server received other bytes: read again here, and repaired if they are corrupt.

use std::sync::Arc;

use chunk_store::{ChunkVerdict, ChunkVerifier, ReportedChunk};
use lifecycle::{Shutdown, fault_log::FaultLog};

use super::manifest_digests::ManifestDigests;
use crate::state::AppState;

/// Verifies reported chunks until `shutdown`, at no more than `rate` bytes per second: reports come from outside.
pub(crate) async fn verify_reported_chunks(state: Arc<AppState>, rate: u64, shutdown: Shutdown) -> anyhow::Result<()> {
    let verifier = ChunkVerifier::new(state.blobs.clone(), ManifestDigests::new(state.clone()), rate);
    let faults = FaultLog::new("Reported chunks cannot be verified");
    let verifying = async {
        loop {
            let reported = state.blobs.chunk_checks().next().await;
            verify(&state, &verifier, &faults, reported).await;
        }
    };
    shutdown.finishing().run_until_cancelled(verifying).await;
    Ok(())
}

async fn verify(state: &AppState, verifier: &ChunkVerifier, faults: &FaultLog, reported: ReportedChunk) {
    let ReportedChunk { file, chunk } = reported;
    match verifier.verify_chunk(reported).await {
        Ok(ChunkVerdict::Corrupt) => {
            state.metrics.confirmed_reports.inc();
            // Damage seldom comes alone.
            state.blobs.scrub_queue().push(file);
        }
        Ok(ChunkVerdict::Intact) => {
            state.metrics.false_reports.inc();
            tracing::info!(%file, chunk, "Chunk {chunk} of file {file} was reported as wrong and is intact here");
        }
        Ok(ChunkVerdict::NotHeld) => {}
        Err(error) => faults.failed(error),
    }
}
