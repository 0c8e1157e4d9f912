//! Making chunks count. Whatever waits is synced together: one sync per blob and one transaction for all, so that
//! "acknowledged" means "synced" without a sync for each chunk.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::{Digest, FileId};

use super::{Blob, BlobError, Blobs, blob::Turn, blocking};
use crate::store::Addition;

/// Chunks made to count together.
const TOGETHER: usize = 1024;

/// A chunk whose bytes were written and matched.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) turn: Turn,
    pub(super) digest: Digest,
    pub(super) done: oneshot::Sender<Result<(), BlobError>>,
}

/// The chunks that wait to count.
#[derive(Debug)]
pub(crate) struct Queue(pub(super) mpsc::Receiver<Verified>);

impl Blobs {
    /// Works off `queue` until `drained`: no request is left that could wait for it.
    pub(crate) async fn keep_committing(
        self: Arc<Self>,
        mut queue: Queue,
        drained: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                n = queue.0.recv_many(&mut batch, TOGETHER) => if n == 0 { break },
                () = drained.cancelled() => break,
            }
            self.commit(batch).await;
        }
        Ok(())
    }

    async fn commit(&self, batch: Vec<Verified>) {
        let synced = self.sync(&batch).await;
        let (good, bad): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|entry| synced.contains(&entry.turn.blob.id) && !entry.turn.is_spoiled());
        for entry in bad {
            // The requester may have gone: then nobody is told, and nothing counts.
            let _ = entry.done.send(Err(BlobError::Unsynced));
        }
        let additions: Vec<Addition> = good
            .iter()
            .map(|entry| Addition { file: entry.turn.blob.id, chunk: entry.turn.chunk.get(), digest: entry.digest })
            .collect();
        let _settling = self.settling.lock().await;
        match self.store.add_chunks(&additions).await {
            Ok(complete) => self.count(good, complete).await,
            Err(error) => {
                tracing::error!(%error, "synced chunks could not be noted");
                let full = error.is_full();
                for entry in good {
                    let told = if full {
                        BlobError::Disk(std::io::ErrorKind::StorageFull.into())
                    } else {
                        BlobError::Unsynced
                    };
                    let _ = entry.done.send(Err(told));
                }
            }
        }
    }

    /// Syncs every blob in the batch; answers those that are on disk.
    async fn sync(&self, batch: &[Verified]) -> HashSet<FileId> {
        let blobs: HashMap<FileId, Arc<Blob>> =
            batch.iter().map(|entry| (entry.turn.blob.id, entry.turn.blob.clone())).collect();
        let syncs = blobs.into_values().map(|blob| async move {
            self.metrics.syncs.inc();
            let syncing = blob.clone();
            match blocking(move || syncing.file.sync_data()).await {
                Ok(()) => Some(blob.id),
                Err(error) => {
                    blob.note_failed_sync();
                    tracing::error!(file = %blob.id, %error, "a blob could not be synced");
                    None
                }
            }
        });
        join_all(syncs).await.into_iter().flatten().collect()
    }

    async fn count(&self, entries: Vec<Verified>, complete: Vec<(FileId, Digest)>) {
        for entry in &entries {
            entry.turn.blob.add(entry.turn.chunk);
        }
        for (file, root) in &complete {
            if let Some(entry) = entries.iter().find(|entry| entry.turn.blob.id == *file) {
                entry.turn.blob.set_root(*root);
            }
        }
        // Only now what may take its time: until here the blobs in memory lag behind their rows.
        for (file, _) in complete {
            self.finish(file).await;
        }
        self.changed.notify_one();
        for entry in entries {
            let told = if entry.turn.blob.is_deleted() { Err(BlobError::Deleted) } else { Ok(()) };
            drop(entry.turn);
            let _ = entry.done.send(told);
        }
    }
}
