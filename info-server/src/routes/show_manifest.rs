use std::sync::Arc;

use axum::extract::State as Shared;
use lifecycle::http::Path;
use wire::{FileId, catalog::Manifest};

use crate::{
    app::State,
    caller::Beholder,
    catalogue::{existing, visible},
    error::Result,
};

/// `GET /v1/files/{id}/manifest`: size, chunk size and the SHA-256 of each chunk; `null` for those that a job has not
/// fetched yet.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/manifest",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = []), ("download" = []), ("server" = [])),
    responses((status = 200, description = "What it is made of", body = Manifest))
)]
pub(super) async fn show_manifest(
    Shared(state): Shared<Arc<State>>,
    beholder: Beholder,
    Path(id): Path<FileId>,
) -> Result<axum::Json<Manifest>> {
    let file = match beholder {
        Beholder::User(user) => visible(&state, id, &user).await?,
        Beholder::Entitled => existing(&state, id).await?,
    };
    let chunks = match (state.store.digests(id).await?, file.job) {
        (Some(digests), _) => digests.into_iter().map(Some).collect(),
        (None, Some(job)) => state.jobs.holdings(job).await?.unwrap_or_default().digests,
        (None, None) => Vec::new(),
    };
    let count = usize::try_from(file.layout.count())?;
    let chunks = if chunks.len() == count { chunks } else { vec![None; count] };
    Ok(axum::Json(Manifest {
        file: id,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        sha256: file.content.map(|content| content.sha256),
        root: file.content.map(|content| content.root),
        chunks,
    }))
}
