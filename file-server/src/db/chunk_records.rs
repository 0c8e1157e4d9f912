//! The database as the records of the chunk store. Orphaned files are withheld.

use async_trait::async_trait;
use chunk_store::{BlobRecord, ChunkRecords, CompletedFile, NewChunk, RecordedChunk, RecordsError, StoredFile};
use wire::{ChunkLayout, Digest, FileId};

use super::Database;

#[async_trait]
impl ChunkRecords for Database {
    async fn file(&self, id: FileId) -> Result<Option<BlobRecord>, RecordsError> {
        Ok(self.note(Self::file(self, id).await)?)
    }

    async fn files(&self) -> Result<Vec<BlobRecord>, RecordsError> {
        Ok(self.note(Self::files(self).await)?)
    }

    async fn add_file(&self, id: FileId, layout: ChunkLayout) -> Result<bool, RecordsError> {
        Ok(self.note(Self::add_file(self, id, layout).await)?)
    }

    async fn add_stored_file(&self, file: &StoredFile) -> Result<bool, RecordsError> {
        Ok(self.note(Self::add_stored_file(self, file).await)?)
    }

    async fn add_chunks(&self, chunks: &[NewChunk]) -> Result<Vec<CompletedFile>, RecordsError> {
        Ok(self.note(Self::add_chunks(self, chunks).await)?)
    }

    async fn chunk_digest(&self, id: FileId, chunk: u32) -> Result<Option<Digest>, RecordsError> {
        Ok(self.note(Self::chunk_digest(self, id, chunk).await)?)
    }

    async fn chunk_digests(&self, id: FileId) -> Result<Vec<RecordedChunk>, RecordsError> {
        Ok(self.note(Self::chunk_digests(self, id).await)?)
    }

    async fn withdraw_chunks(&self, id: FileId, chunks: &[u32]) -> Result<(), RecordsError> {
        Ok(self.note(Self::withdraw_chunks(self, id, chunks).await)?)
    }

    async fn record_loss(&self, id: FileId) -> Result<(), RecordsError> {
        Ok(self.note(Self::record_loss(self, id).await)?)
    }

    async fn set_sha256(&self, id: FileId, sha256: Digest) -> Result<(), RecordsError> {
        Ok(self.note(Self::set_sha256(self, id, sha256).await)?)
    }

    async fn files_without_sha256(&self, limit: u32) -> Result<Vec<FileId>, RecordsError> {
        Ok(self.note(Self::files_without_sha256(self, limit).await)?)
    }

    async fn is_withheld(&self, id: FileId) -> Result<bool, RecordsError> {
        Ok(self.note(self.is_orphaned(id).await)?)
    }

    async fn is_dropped(&self, id: FileId) -> Result<bool, RecordsError> {
        Ok(self.note(Self::is_dropped(self, id).await)?)
    }
}
