//! Group commit: whatever waits is synced together, with one sync per blob and one transaction for all, so that
//! "acknowledged" means "synced" without a sync for each chunk.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use lifecycle::fault_log::FaultLog;
use tokio_util::sync::CancellationToken;
use wire::FileId;

use super::{
    chunk_writer::WrittenChunk,
    commit_queue::{CommitQueue, PendingChunk},
};
use crate::{Blob, BlobError, BlobStore, CompletedFile, NewChunk, run_blocking, with_disk_timeout};

static RECORD_FAULTS: FaultLog = FaultLog::new("Synced chunks could not be recorded");
static SYNC_FAULTS: FaultLog = FaultLog::new("Written bytes could not be synced");

/// Chunks committed together.
const MAX_COMMIT_CHUNKS: usize = 1024;

impl BlobStore {
    /// Commits a chunk: returns once it is synced, recorded and served.
    ///
    /// # Errors
    /// When the chunk does not count: the sync or the record failed, or the file was deleted meanwhile.
    pub async fn commit_chunk(&self, chunk: WrittenChunk) -> Result<(), BlobError> {
        let (pending, committed) = PendingChunk::new(chunk);
        let commit = async {
            self.commits().send(pending).await.map_err(|_| BlobError::Unsynced)?;
            committed.await.map_err(|_| BlobError::Unsynced)?
        };
        with_disk_timeout(commit).await
    }

    /// Works off `queue` until `drained`: then no request is left that could wait for it.
    ///
    /// # Errors
    /// Never; the signature is that of a background task.
    pub async fn run_commits(
        self: Arc<Self>,
        mut queue: CommitQueue,
        drained: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                n = queue.next_batch(&mut batch, MAX_COMMIT_CHUNKS) => if n == 0 { break },
                () = drained.cancelled() => break,
            }
            self.commit(batch).await;
        }
        Ok(())
    }

    async fn commit(&self, batch: Vec<PendingChunk>) {
        let synced = self.sync(&batch).await;
        let (good, bad): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|chunk| synced.contains(&chunk.permit.blob().id()) && !chunk.permit.is_void());
        for chunk in bad {
            // The requester may have gone: then nothing is acknowledged, and nothing counts.
            let _ = chunk.done.send(Err(BlobError::Unsynced));
        }
        if let Err(replaced) = self.check_folder().await {
            let failures = good.into_iter().map(|chunk| chunk.done.send(Err(replaced.clone().into())));
            // Nothing counts that is not there after a restart.
            failures.for_each(drop);
            return;
        }
        let _accounting = self.lock_accounting().await;
        // Files that were dropped, or lost their names, since their bytes were written.
        let (good, dropped): (Vec<_>, Vec<_>) = good.into_iter().partition(|chunk| !chunk.permit.blob().is_deleted());
        for chunk in dropped {
            let _ = chunk.done.send(Err(BlobError::Deleted));
        }
        let new: Vec<NewChunk> = good
            .iter()
            .map(|chunk| NewChunk {
                file: chunk.permit.blob().id(),
                chunk: chunk.permit.chunk().get(),
                digest: chunk.digest,
            })
            .collect();
        // First: a file that is complete now must not be reported as such before it was read back.
        self.recent_commits().note_commit(new.iter().map(|chunk| chunk.file));
        match self.records().add_chunks(&new).await {
            Ok(completed) => self.acknowledge(good, completed).await,
            Err(error) => {
                let full = error.is_full();
                RECORD_FAULTS.failed(error);
                for chunk in good {
                    let failure = if full { BlobError::full() } else { BlobError::Unsynced };
                    let _ = chunk.done.send(Err(failure));
                }
            }
        }
    }

    /// Syncs every blob in the batch, and returns those whose bytes are on disk.
    async fn sync(&self, batch: &[PendingChunk]) -> HashSet<FileId> {
        let blobs: HashMap<FileId, Arc<Blob>> =
            batch.iter().map(|chunk| (chunk.permit.blob().id(), chunk.permit.blob().clone())).collect();
        let syncs = blobs.into_values().map(|blob| async move {
            self.metrics().syncs.inc();
            let (id, syncing) = (blob.id(), blob.clone());
            match run_blocking(move || syncing.file().sync_data()).await {
                Ok(()) => Some(id),
                Err(error) => {
                    blob.note_failed_sync();
                    SYNC_FAULTS.failed(format_args!("file {id}: {error}"));
                    None
                }
            }
        });
        join_all(syncs).await.into_iter().flatten().collect()
    }

    async fn acknowledge(&self, chunks: Vec<PendingChunk>, completed: Vec<CompletedFile>) {
        for chunk in &chunks {
            chunk.permit.blob().add(chunk.permit.chunk());
        }
        for CompletedFile { file, root } in &completed {
            if let Some(chunk) = chunks.iter().find(|chunk| chunk.permit.blob().id() == *file) {
                chunk.permit.blob().set_root(*root);
            }
        }
        // Slow steps come only now: until here the blobs in memory lag behind their records.
        for CompletedFile { file, .. } in completed {
            self.complete(file).await;
        }
        self.events().notify_changed();
        for PendingChunk { permit, done, .. } in chunks {
            let outcome = if permit.blob().is_deleted() { Err(BlobError::Deleted) } else { Ok(()) };
            drop(permit);
            let _ = done.send(outcome);
        }
    }
}
