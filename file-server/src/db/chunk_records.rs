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

    async fn correct_digest(&self, id: FileId, chunk: RecordedChunk) -> Result<(), RecordsError> {
        Ok(self.note(Self::correct_digest(self, id, chunk).await)?)
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::Arc,
    };

    use chunk_store::{Adoption, BlobDirectory, BlobError, BlobStore, StoreMetrics, StoreOptions};
    use lifecycle::data_folder::DataFolder;

    use super::*;
    use crate::db::Durability;

    const CONTENT: &[u8] = b"verified bytes";

    struct Scene {
        folder: tempfile::TempDir,
        db: Database,
        id: FileId,
        layout: ChunkLayout,
    }

    impl Scene {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let db = Database::open(&folder.path().join("db")).await.unwrap();
            let layout = ChunkLayout::of(u64::try_from(CONTENT.len()).unwrap()).unwrap();
            Self { folder, db, id: FileId::new(), layout }
        }

        async fn blobs(&self) -> Arc<BlobStore> {
            let (data, partial) = (self.folder.path().join("data"), self.folder.path().join("data/partial"));
            let folder = DataFolder { path: &data, evidence: &[], mode: 0o750, init: true };
            let directory = BlobDirectory::create_and_lock(&folder, &partial).unwrap();
            let options = StoreOptions { metrics: StoreMetrics::default(), max_open_blobs: 8, keep_unrecorded: true };
            BlobStore::open(directory, Arc::new(self.db.clone()), options).await.unwrap().0
        }

        fn complete_path(&self) -> PathBuf {
            let name = self.id.to_string();
            self.folder.path().join("data/files").join(&name[name.len() - 2..]).join(name)
        }

        fn partial_path(&self) -> PathBuf {
            self.folder.path().join("data/partial").join(self.id.to_string())
        }

        fn put(path: &Path, bytes: &[u8]) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    #[tokio::test]
    async fn an_adopted_file_keeps_its_bytes_and_is_not_begun_anew_before() {
        let scene = Scene::new().await;
        Scene::put(&scene.complete_path(), CONTENT);
        let blobs = scene.blobs().await;
        let begun = blobs.find_or_create(scene.id, scene.layout).await;
        assert!(matches!(begun, Err(BlobError::Unrecorded)), "{begun:?}");
        assert!(!scene.partial_path().exists());
        // Left by a process that did not refuse this.
        Scene::put(&scene.partial_path(), &vec![0; CONTENT.len()]);
        let adopted = blobs.adopt(scene.id, scene.layout, &[Some(Digest::of(CONTENT))]).await.unwrap();
        assert_eq!(adopted, Some(Adoption { recorded: 1, missing: 0 }));
        assert_eq!(fs::read(scene.complete_path()).unwrap(), CONTENT);
        assert!(!scene.partial_path().exists());
        assert!(blobs.find_or_create(scene.id, scene.layout).await.is_ok());
        scene.db.close().await;
    }

    #[tokio::test]
    async fn a_start_removes_what_was_begun_of_a_complete_file() {
        let scene = Scene::new().await;
        let file = StoredFile {
            id: scene.id,
            layout: scene.layout,
            chunks: vec![RecordedChunk { chunk: 0, digest: Digest::of(CONTENT) }],
            sha256: Some(Digest::of(CONTENT)),
            withheld: false,
        };
        assert!(scene.db.add_stored_file(&file).await.unwrap());
        Scene::put(&scene.complete_path(), CONTENT);
        Scene::put(&scene.partial_path(), &vec![0; CONTENT.len()]);
        let blobs = scene.blobs().await;
        assert!(blobs.find(scene.id).await.unwrap().is_some());
        assert!(!scene.partial_path().exists());
        assert_eq!(fs::read(scene.complete_path()).unwrap(), CONTENT);
        scene.db.close().await;
    }

    #[tokio::test]
    async fn a_blob_whose_requester_has_gone_is_recorded_before_another_step_finds_its_file() {
        let scene = Scene::new().await;
        let blobs = scene.blobs().await;
        // The record has to wait for this transaction.
        let transaction = scene.db.write(Durability::Ordered).await.unwrap();
        let mut creating = Box::pin(blobs.find_or_create(scene.id, scene.layout));
        while !scene.partial_path().exists() {
            assert!(futures::poll!(&mut creating).is_pending());
            tokio::task::yield_now().await;
        }
        drop(creating);
        drop(transaction);
        assert!(blobs.find(scene.id).await.unwrap().is_some());
        scene.db.close().await;
    }

    #[tokio::test]
    async fn a_blob_that_could_not_be_recorded_is_removed() {
        let scene = Scene::new().await;
        let blobs = scene.blobs().await;
        sqlx::query("create trigger refuse before insert on file begin select raise(abort, 'refused'); end")
            .execute(&scene.db.writer)
            .await
            .unwrap();
        assert!(matches!(blobs.find_or_create(scene.id, scene.layout).await, Err(BlobError::Records(_))));
        assert!(!scene.partial_path().exists());
        scene.db.close().await;
    }
}
