//! The SHA-256 of whole files, read back from disk in the background: only then may this server vouch for it.

use std::{
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use lifecycle::Shutdown;
use wire::{Digest, FileId, Hasher};

use super::{Blob, BlobError, Blobs, blocking};

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

/// How long to leave a file alone that could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

impl Blobs {
    /// Reads complete files back, one after the other, until `shutdown`. What it interrupts begins anew at the next start.
    pub(crate) async fn keep_reading_back(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        while !finishing.is_cancelled() {
            let read = tokio::select! {
                read = self.read_back_next() => read,
                () = finishing.cancelled() => break,
            };
            let wait = match read {
                Ok(true) | Err(BlobError::Deleted) => continue,
                Ok(false) => Duration::MAX,
                Err(error) => {
                    tracing::error!(%error, "a complete file could not be read back");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = self.completed.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = finishing.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn read_back_next(&self) -> Result<bool, BlobError> {
        let Some(id) = self.store.unread().await? else { return Ok(false) };
        let blob = self.find(id).await?.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        let damages = blob.damages();
        let digest = hash_slowly(&blob, id).await.inspect_err(|error| {
            if matches!(error, BlobError::Disk(_)) {
                self.suspects.add(id);
            }
        })?;
        if blob.damages() != damages {
            // Some of it was read before it was healed.
            return Ok(true);
        }
        self.store.set_sha256(id, digest).await?;
        blob.set_sha256(digest);
        self.changed.notify_one();
        tracing::info!(file = %id, sha256 = %digest, "read a complete file back");
        Ok(true)
    }
}

/// Takes at most half of one core: after each block it rests as long as the block took.
async fn hash_slowly(blob: &Arc<Blob>, id: FileId) -> Result<Digest, BlobError> {
    let size = blob.layout.size();
    let mut state = (Hasher::new(), vec![0; BLOCK]);
    let mut at = 0;
    while at < size {
        if blob.is_deleted() {
            return Err(BlobError::Deleted);
        }
        let begun = Instant::now();
        let reading = blob.clone();
        let most = usize::try_from(size - at).unwrap_or(BLOCK).min(BLOCK);
        state = blocking(move || {
            let (mut hasher, mut block) = state;
            if let Some(space) = block.get_mut(..most) {
                reading.file.read_exact_at(space, at)?;
                hasher.update(space);
            }
            Ok((hasher, block))
        })
        .await
        .inspect_err(|error| tracing::error!(file = %id, %error, "reading back failed"))?;
        at = at.saturating_add(u64::try_from(most).unwrap_or(u64::MAX));
        tokio::time::sleep(begun.elapsed()).await;
    }
    Ok(state.0.finish())
}
