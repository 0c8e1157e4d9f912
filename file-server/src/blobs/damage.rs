//! What to do about bytes that are not there any more, or not what they were.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use wire::FileId;

use super::{BlobError, Blobs, blocking};

/// Files looked at together.
const TOGETHER: usize = 256;

/// Files at which something was seen that is to be looked into. A set, so bounded by the files that are here.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    files: Mutex<BTreeSet<FileId>>,
    /// There is one more of them.
    pub(crate) more: Notify,
}

impl Suspects {
    pub(crate) fn add(&self, id: FileId) {
        self.lock().insert(id);
        self.more.notify_one();
    }

    pub(crate) fn next(&self) -> Option<FileId> {
        self.lock().pop_first()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<FileId>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blobs {
    /// Chunks whose bytes are not what they were: from now on they are not served, are reported as not held, and are to be
    /// fetched again.
    pub(crate) async fn quarantine(&self, id: FileId, chunks: &[u32]) -> Result<(), BlobError> {
        let _settling = self.settling.lock().await;
        // First of all nobody gets these bytes any more, not even who is in the middle of them.
        if let Some(blob) = self.opened(id) {
            blob.drop_chunks(chunks);
        }
        tracing::error!(file = %id, ?chunks, "chunks are not what they were: fetching them again");
        self.metrics.quarantined.inc_by(u64::try_from(chunks.len()).unwrap_or(u64::MAX));
        self.store.drop_chunks(id, chunks).await?;
        self.changed.notify_one();
        let folder = self.folder.clone();
        // What stops here is put right by the next start.
        blocking(move || folder.take_back(id)).await?;
        self.wanting.notify_one();
        Ok(())
    }

    /// Looks whether a replica's bytes are where they should be. If not it is dropped, reported, and fetched again.
    /// Answers whether it was lost.
    pub(crate) async fn drop_if_lost(&self, id: FileId) -> Result<bool, BlobError> {
        let _changing = self.changing.lock().await;
        let Some(row) = self.store.file(id).await? else { return Ok(false) };
        let (folder, size) = (self.folder.clone(), row.layout.size());
        if blocking(move || folder.has(id, size)).await? {
            return Ok(false);
        }
        if let Some(open) = self.table().remove(&id) {
            open.blob.mark_lost();
        }
        tracing::error!(file = %id, "a replica's bytes are gone from the disk: fetching them again");
        self.metrics.lost.inc();
        self.store.lose_file(id).await?;
        self.changed.notify_one();
        let folder = self.folder.clone();
        blocking(move || folder.remove(id)).await?;
        self.wanting.notify_one();
        Ok(true)
    }

    /// Files whose bytes are not where they should be, as far as a look at names and sizes tells.
    pub(crate) async fn seemingly_lost(&self) -> Result<Vec<FileId>, BlobError> {
        let mut lost = Vec::new();
        for rows in self.store.files().await?.chunks(TOGETHER) {
            let folder = self.folder.clone();
            let files: Vec<_> = rows.iter().map(|row| (row.id, row.layout.size())).collect();
            let gone = blocking(move || {
                let there = |(id, size): &(FileId, u64)| folder.has(*id, *size);
                files
                    .iter()
                    .filter_map(|file| there(file).map(|there| (!there).then_some(file.0)).transpose())
                    .collect()
            });
            lost.extend(gone.await.map(|gone: Vec<FileId>| gone)?);
        }
        Ok(lost)
    }
}
