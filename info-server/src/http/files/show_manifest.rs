use std::sync::Arc;

use axum::extract::State as Shared;
use http_front::extract::Path;
use wire::{FileId, catalogue::Manifest};

use crate::{
    catalogue::visibility::{existing, visible},
    error::Result,
    http::auth::ManifestReader,
    state::State,
};

/// `GET /v1/files/{id}/manifest`: size, chunk size and the SHA-256 of each chunk; `null` for those that a job has not
/// fetched yet.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/manifest",
    tag = "Files",
    params(("id" = FileId, Path, description = "The file")), security(("session" = []), ("download" = []), ("server" = [])),
    responses((status = 200, description = "The manifest", body = Manifest))
)]
pub(crate) async fn show_manifest(
    Shared(state): Shared<Arc<State>>,
    caller: ManifestReader,
    Path(id): Path<FileId>,
) -> Result<axum::Json<Manifest>> {
    let file = match caller {
        ManifestReader::User(user) => visible(&state.db, id, &user).await?,
        ManifestReader::Entitled => existing(&state.db, id).await?,
    };
    let chunks = match (state.db.digests(id).await?, file.job) {
        (Some(digests), _) => digests.into_iter().map(Some).collect(),
        (None, Some(job)) => state.jobs.file_view(job).await?.unwrap_or_default().digests,
        (None, None) => Vec::new(),
    };
    let count = usize::try_from(file.layout.count())?;
    let chunks = if chunks.len() == count { chunks } else { vec![None; count] };
    let is_disputed = state.db.disputed(&[id]).await?.contains(&id);
    Ok(axum::Json(Manifest {
        file: id,
        size: file.layout.size(),
        chunk_size: file.layout.chunk_size(),
        sha256: file.shown_sha256(is_disputed),
        root: file.content.map(|content| content.root),
        chunks,
    }))
}
