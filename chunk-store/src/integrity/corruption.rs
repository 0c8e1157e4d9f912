//! Withdrawal of bytes that are gone from the disk, or not what they were.

use wire::FileId;

use crate::{Blob, BlobError, BlobStore, RecordedChunk, run_blocking};

/// Files looked up together on disk.
const LOOKUP_BATCH_SIZE: usize = 256;

impl BlobStore {
    /// Withdraws corrupt chunks: from now on they are not served, are reported as not stored, and are to be fetched again.
    ///
    /// # Errors
    /// When the records cannot be written. The chunks are not served in any case; the next start repeats the rest.
    pub async fn withdraw_chunks(&self, id: FileId, chunks: &[u32]) -> Result<(), BlobError> {
        let _accounting = self.lock_accounting().await;
        self.withdraw(id, chunks).await
    }

    /// Withdraws chunks that were read and found corrupt, unless chunks of the file were withdrawn since that began: `seen`
    /// withdrawals ago. They may have been fetched again meanwhile, so the file is verified once more. True if they were.
    pub(super) async fn withdraw_if_unchanged(
        &self,
        blob: &Blob,
        seen: u64,
        chunks: &[u32],
    ) -> Result<bool, BlobError> {
        let _accounting = self.lock_accounting().await;
        if blob.withdrawals() != seen {
            self.scrub_queue().push(blob.id());
            return Ok(false);
        }
        self.withdraw(blob.id(), chunks).await.map(|()| true)
    }

    /// Corrects the recorded digest of a chunk whose bytes are those of the catalogue, unless chunks of the file were withdrawn
    /// since it was read: `seen` withdrawals ago. True if it was corrected.
    pub(super) async fn correct_digest_if_unchanged(
        &self,
        blob: &Blob,
        seen: u64,
        chunk: RecordedChunk,
    ) -> Result<bool, BlobError> {
        let _accounting = self.lock_accounting().await;
        if blob.withdrawals() != seen {
            return Ok(false);
        }
        let (id, n) = (blob.id(), chunk.chunk);
        self.records().correct_digest(id, chunk).await?;
        self.metrics().corrected_digests.inc();
        tracing::error!(
            file = %id, chunk = n,
            "Chunk {n} of file {id} is intact, and its recorded digest was wrong: corrected it; check the disk of the database"
        );
        Ok(true)
    }

    /// The caller holds `accounting`.
    async fn withdraw(&self, id: FileId, chunks: &[u32]) -> Result<(), BlobError> {
        // First of all these bytes are not sent any more, not even within a response that has begun.
        if let Some(blob) = self.open_blobs().get(id) {
            blob.withdraw(chunks);
        }
        tracing::error!(file = %id, ?chunks, "Chunks of file {id} are corrupt: fetching them again");
        self.metrics().corrupt_chunks.inc_by(u64::try_from(chunks.len()).unwrap_or(u64::MAX));
        self.records().withdraw_chunks(id, chunks).await?;
        self.events().notify_changed();
        let directory = self.directory().clone();
        // A move that fails or is interrupted here is repeated by the next start.
        run_blocking(move || directory.reopen(id)).await?;
        self.events().notify_missing();
        Ok(())
    }

    /// Drops a file whose bytes are gone from the disk; it is reported and fetched again. True if it was lost.
    ///
    /// # Errors
    /// When the disk or the records cannot be read or written.
    pub async fn drop_if_lost(&self, id: FileId) -> Result<bool, BlobError> {
        let opening = self.lock_opening().await;
        // Everything seems to be gone while the folder's disk is: that is no loss.
        self.check_folder().await?;
        let Some(record) = self.records().file(id).await? else { return Ok(false) };
        let (directory, size) = (self.directory().clone(), record.layout.size());
        if run_blocking(move || directory.has(id, size)).await? {
            return Ok(false);
        }
        if let Some(blob) = self.open_blobs().remove(id) {
            blob.mark_lost();
        }
        tracing::error!(file = %id, "Bytes of file {id} are gone from the disk: fetching them again");
        self.metrics().lost_files.inc();
        self.records().record_loss(id).await?;
        self.events().notify_changed();
        let directory = self.directory().clone();
        let remove = run_blocking(move || {
            let _opening = opening;
            directory.remove(id)
        });
        remove.await?;
        self.events().notify_missing();
        Ok(true)
    }

    /// Closes a blob if another file lies under its name: from now on that one is used, and is to be verified. True if it
    /// was closed.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn close_if_replaced(&self, id: FileId) -> Result<bool, BlobError> {
        let _opening = self.lock_opening().await;
        // Chunks written into the open file must not be recorded for the other one.
        let _accounting = self.lock_accounting().await;
        let Some(blob) = self.open_blobs().get(id) else { return Ok(false) };
        let directory = self.directory().clone();
        let found = run_blocking(move || directory.inode(id)).await?;
        if !found.is_some_and(|found| blob.is_other_than(found)) {
            return Ok(false);
        }
        self.open_blobs().remove(id);
        blob.mark_lost();
        tracing::error!(file = %id, "Another file lies under the name of file {id}: closing the one that was open");
        Ok(true)
    }

    /// Adds open blobs under whose names other files lie to the queue of files to verify: those would be served after a
    /// restart.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn queue_replaced(&self) -> Result<(), BlobError> {
        for blobs in self.open_blobs().all().chunks(LOOKUP_BATCH_SIZE) {
            let (directory, blobs) = (self.directory().clone(), blobs.to_vec());
            let replaced = run_blocking(move || {
                let mut replaced = Vec::new();
                for blob in blobs {
                    if directory.inode(blob.id())?.is_some_and(|found| blob.is_other_than(found)) {
                        replaced.push(blob.id());
                    }
                }
                Ok(replaced)
            });
            replaced.await?.into_iter().for_each(|id| self.scrub_queue().push(id));
        }
        Ok(())
    }

    /// Returns the files whose bytes are missing on disk, judged by names and sizes.
    ///
    /// # Errors
    /// When the disk or the records cannot be read.
    pub async fn find_lost(&self) -> Result<Vec<FileId>, BlobError> {
        let mut lost = Vec::new();
        for records in self.records().files().await?.chunks(LOOKUP_BATCH_SIZE) {
            let directory = self.directory().clone();
            let files: Vec<_> = records.iter().map(|record| (record.id, record.layout.size())).collect();
            let missing = run_blocking(move || {
                let mut missing = Vec::new();
                for (id, size) in files {
                    if !directory.has(id, size)? {
                        missing.push(id);
                    }
                }
                Ok(missing)
            });
            lost.extend(missing.await?);
        }
        Ok(lost)
    }
}
