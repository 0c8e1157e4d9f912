//! `GET /v1/files/{id}/chunks`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use lifecycle::{
    api::{Conflict, NotHeld},
    http::Path,
};
use wire::{Layout, server::HeldChunks, token::Purpose};

use super::access::Claim;
use crate::{error::Error, server::Server, tokens::Need};

/// Says which chunks are verified here, so that an upload resumes.
#[utoipa::path(
    get,
    path = "/v1/files/{id}/chunks",
    tag = "Uploads",
    params(("id" = String, Path, description = "The file's id")), security(("upload" = []), ("download" = [])),
    responses((status = 200, description = "What is verified here", body = HeldChunks), NotHeld, Conflict)
)]
pub(super) async fn list_chunks(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<HeldChunks>, Error> {
    let (parts, _) = request.into_parts();
    let access = Claim::read(&server, &parts)?.judge(&server, &id, Need::List).await?;
    let blob = match access.grant.purpose {
        // An empty file has no chunk whose arrival could complete it, so asking for it does.
        Purpose::Upload { size: 0, chunk_size, .. } => {
            Some(server.blobs.find_or_make(access.file, Layout::checked(0, chunk_size)?).await?)
        }
        Purpose::Upload { size, chunk_size, .. } => {
            let layout = Layout::checked(size, chunk_size)?;
            let blob = server.blobs.find(access.file).await?;
            if blob.as_ref().is_some_and(|blob| blob.layout() != layout) {
                return Err(crate::blobs::BlobError::Layout.into());
            }
            blob
        }
        Purpose::Download => Some(server.blobs.find(access.file).await?.ok_or(Error::NotHere)?),
    };
    let (runs, root) = blob.map(|blob| blob.progress()).unwrap_or_default();
    Ok(Json(HeldChunks { runs, root }))
}
