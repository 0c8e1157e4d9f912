//! Blobs without a record, which a lost database leaves: their chunks are compared with digests from elsewhere, and those
//! that match are recorded. No byte is written.

use std::{io, os::unix::fs::FileExt as _};

use wire::{ChunkLayout, Digest, FileId, Hasher};

use crate::{BlobError, BlobStore, RecordedChunk, StoredFile, blobs::directory::Stray, run_blocking};

/// A blob without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnrecordedBlob {
    /// The file.
    pub id: FileId,
    /// Bytes of the blob, which are those of the file.
    pub size: u64,
    /// Set if the blob was complete.
    pub complete: bool,
}

/// Result of an adoption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adoption {
    /// Chunks that are recorded now.
    pub recorded: u32,
    /// Chunks that do not match, or whose digest is unknown.
    pub missing: u32,
}

/// Intact chunks of a blob.
struct Contents {
    /// Set if the blob has the name of a complete one.
    complete: bool,
    chunks: Vec<RecordedChunk>,
    /// SHA-256 of the whole, if all chunks are intact.
    sha256: Option<Digest>,
}

impl BlobStore {
    /// Returns true if bytes of the file lie on disk without a record and may still be adopted: they are not to be fetched.
    pub fn is_unrecorded(&self, id: FileId) -> bool {
        self.unrecorded_blobs().contains(id)
    }

    /// Returns the blobs without a record.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn unrecorded(&self) -> Result<Vec<UnrecordedBlob>, BlobError> {
        let ids = self.unrecorded_blobs().all();
        let directory = self.directory().clone();
        let looked_up = run_blocking(move || {
            let mut found = Vec::new();
            for id in ids {
                let sizes = directory.sizes(id)?;
                let blob = |size, complete| UnrecordedBlob { id, size, complete };
                // The complete one is not to be replaced by what was begun after it.
                found.extend(
                    sizes.complete.map(|size| blob(size, true)).or(sizes.partial.map(|size| blob(size, false))),
                );
            }
            Ok(found)
        });
        Ok(looked_up.await?)
    }

    /// Leaves a blob alone that cannot be adopted.
    pub fn leave_unrecorded(&self, id: FileId) {
        self.unrecorded_blobs().remove(id);
    }

    /// Removes a blob without a record.
    pub async fn remove_unrecorded(&self, id: FileId) {
        self.unrecorded_blobs().remove(id);
        self.remove(vec![id]).await;
    }

    /// Compares a blob with the digests of its chunks, as far as they are known, and records what matches. `None` when it has
    /// another size, or a record meanwhile.
    ///
    /// # Errors
    /// When the records cannot be written; the blob stays as it is.
    pub async fn adopt(
        &self,
        id: FileId,
        layout: ChunkLayout,
        digests: &[Option<Digest>],
    ) -> Result<Option<Adoption>, BlobError> {
        let expected = digests.to_vec();
        let matching = move |n: usize, found: Digest| expected.get(n).copied().flatten() == Some(found);
        self.record_contents(id, layout, false, matching).await
    }

    /// Records a blob that the catalogue does not have, as withheld: its owner decides about it. A complete one is recorded with
    /// the digests that it has, as nothing else tells which are right; of a partial one nothing tells which chunks are stored.
    ///
    /// # Errors
    /// When the records cannot be written; the blob stays as it is.
    pub async fn record_orphan(&self, id: FileId, layout: ChunkLayout) -> Result<Option<Adoption>, BlobError> {
        let directory = self.directory().clone();
        let is_complete = run_blocking(move || Ok(directory.sizes(id)?.complete.is_some())).await?;
        self.record_contents(id, layout, true, move |_, _| is_complete).await
    }

    async fn record_contents(
        &self,
        id: FileId,
        layout: ChunkLayout,
        withheld: bool,
        accept: impl Fn(usize, Digest) -> bool + Send + 'static,
    ) -> Result<Option<Adoption>, BlobError> {
        let directory = self.directory().clone();
        let read = run_blocking(move || {
            let Some(stray) = directory.open_stray(id)? else { return Ok(None) };
            if stray.file.metadata()?.len() == layout.size() {
                read(&stray, layout, accept).map(Some)
            } else {
                Ok(None)
            }
        });
        let Some(Contents { complete, chunks, sha256 }) = read.await? else { return Ok(None) };
        let opening = self.lock_opening().await;
        if self.records().file(id).await?.is_some() {
            return Ok(None);
        }
        let recorded = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let adoption = Adoption { recorded, missing: layout.count().saturating_sub(recorded) };
        if !self.records().add_stored_file(&StoredFile { id, layout, chunks, sha256, withheld }).await? {
            return Ok(None);
        }
        let directory = self.directory().clone();
        // A move that is interrupted here is repeated by the next start.
        let place = run_blocking(move || {
            let _opening = opening;
            match (complete, sha256.is_some()) {
                // The bytes that were read are under the final name: what lies beside them counts for nothing.
                (true, true) => directory.remove_partial(id),
                (true, false) => directory.reopen(id),
                (false, true) => directory.complete(id),
                (false, false) => Ok(()),
            }
        });
        place.await?;
        self.unrecorded_blobs().remove(id);
        self.events().notify_changed();
        self.events().notify_missing();
        Ok(Some(adoption))
    }
}

/// Reads a blob, and returns the chunks whose digest is accepted. A chunk that cannot be read is not.
fn read(stray: &Stray, layout: ChunkLayout, accept: impl Fn(usize, Digest) -> bool) -> io::Result<Contents> {
    let (mut whole, mut chunks) = (Hasher::new(), Vec::new());
    let mut buffer = vec![0; usize::try_from(layout.chunk_size().min(layout.size())).map_err(io::Error::other)?];
    for (n, chunk) in layout.chunks().enumerate() {
        let bytes = layout.bytes_of(chunk);
        let len = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
        let space = buffer.get_mut(..len).unwrap_or_default();
        if stray.file.read_exact_at(space, bytes.start).is_err() {
            continue;
        }
        whole.update(space);
        let digest = Digest::of(space);
        if accept(n, digest) {
            chunks.push(RecordedChunk { chunk: chunk.get(), digest });
        }
    }
    let is_whole = u32::try_from(chunks.len()).is_ok_and(|found| found == layout.count());
    Ok(Contents { complete: stray.complete, chunks, sha256: is_whole.then(|| whole.finish()) })
}
