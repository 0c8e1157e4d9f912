//! Digests from the manifests of the info-server, for chunks whose bytes contradict the database here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chunk_store::CatalogueDigests;
use tokio::sync::Mutex;
use wire::{Digest, FileId};

use crate::state::AppState;

/// Time for which a manifest is kept: damage seldom comes alone.
const MANIFEST_LIFETIME: Duration = Duration::from_secs(60);

/// Digests of the info-server.
#[derive(Debug)]
pub(crate) struct ManifestDigests {
    state: Arc<AppState>,
    last: Mutex<Option<FetchedManifest>>,
}

#[derive(Debug)]
struct FetchedManifest {
    file: FileId,
    at: Instant,
    /// Empty if the info-server did not send it.
    digests: Vec<Option<Digest>>,
}

impl ManifestDigests {
    pub(crate) fn new(state: Arc<AppState>) -> Arc<Self> {
        Arc::new(Self { state, last: Mutex::default() })
    }

    async fn fetch(&self, file: FileId) -> FetchedManifest {
        let manifest = self.state.info.manifest(file).await.map_err(|error| error.to_string());
        let manifest = manifest.and_then(|manifest| match manifest.check() {
            Ok(_) if manifest.file == file => Ok(manifest.chunks),
            _ => Err("it contradicts itself".to_owned()),
        });
        let digests = manifest.unwrap_or_else(|error| {
            tracing::warn!(%file, error, "There is no manifest of file {file} to compare a damaged chunk with: {error}");
            Vec::new()
        });
        FetchedManifest { file, at: Instant::now(), digests }
    }
}

#[async_trait]
impl CatalogueDigests for ManifestDigests {
    async fn digest(&self, file: FileId, chunk: u32) -> Option<Digest> {
        let mut last = self.last.lock().await;
        let is_recent = |last: &FetchedManifest| last.file == file && last.at.elapsed() < MANIFEST_LIFETIME;
        if !last.as_ref().is_some_and(is_recent) {
            *last = Some(self.fetch(file).await);
        }
        last.as_ref()?.digests.get(usize::try_from(chunk).ok()?).copied().flatten()
    }
}
