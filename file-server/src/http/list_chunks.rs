//! `GET /v1/files/{id}/chunks`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use chunk_store::{BlobError, with_disk_timeout};
use http_front::{
    extract::Path,
    openapi::{Conflict, NotHeld},
};
use wire::{ChunkLayout, server::HeldChunks, token::GrantPurpose};

use super::access::PresentedToken;
use crate::{error::Error, state::AppState, tokens::permission::RequiredAccess};

/// Lists the verified chunks, so that an upload resumes.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/chunks",
    tag = "Uploads",
    params(("id" = String, Path, description = "The file's id")), security(("upload" = []), ("download" = [])),
    responses((status = 200, description = "The verified chunks", body = HeldChunks), NotHeld, Conflict)
)]
pub(super) async fn list_chunks(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<HeldChunks>, Error> {
    let (parts, _) = request.into_parts();
    let access = PresentedToken::read(&state, &parts.headers)?.authorize(&state, &id, RequiredAccess::List).await?;
    let blob = match access.grant.purpose {
        // An empty file has no chunk whose arrival could complete it, so this request does.
        GrantPurpose::Upload { size: 0, chunk_size, .. } => {
            let layout = ChunkLayout::checked(0, chunk_size)?;
            Some(with_disk_timeout(state.blobs.find_or_create(access.file, layout)).await?)
        }
        GrantPurpose::Upload { size, chunk_size, .. } => {
            let layout = ChunkLayout::checked(size, chunk_size)?;
            let blob = with_disk_timeout(state.blobs.find(access.file)).await?;
            if blob.as_ref().is_some_and(|blob| blob.layout() != layout) {
                return Err(BlobError::LayoutConflict.into());
            }
            blob
        }
        GrantPurpose::Download => Some(with_disk_timeout(state.blobs.find(access.file)).await?.ok_or(Error::NotHere)?),
    };
    // An upload that resumes leaves out what is listed.
    state.blobs.check_folder().await.map_err(BlobError::from)?;
    let (runs, root) = blob.map(|blob| blob.progress()).unwrap_or_default();
    Ok(Json(HeldChunks { runs, root }))
}
