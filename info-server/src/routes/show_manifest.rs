use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Path;
use wire::{FileId, catalog::Manifest};

use super::show_file::existing;
use crate::{app::State, caller::Beholder, error::Result};

/// `GET /v1/files/{id}/manifest`.
pub(super) async fn show_manifest(
    Shared(state): Shared<Arc<State>>,
    _: Beholder,
    Path(id): Path<FileId>,
) -> Result<axum::Json<Manifest>> {
    let file = existing(&state, id).await?;
    let chunks = match state.store.digests(id).await? {
        Some(digests) => digests.into_iter().map(Some).collect(),
        None => vec![None; usize::try_from(file.layout.count())?],
    };
    Ok(axum::Json(Manifest {
        file: id,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        sha256: file.content.map(|content| content.sha256),
        root: file.content.map(|content| content.root),
        chunks,
    }))
}
