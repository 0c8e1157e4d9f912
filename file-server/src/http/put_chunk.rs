//! `PUT /v1/files/{id}/chunks/{n}`.

use std::sync::Arc;

use axum::extract::{Request, State};
use chunk_store::{BlobError, ChunkReceipt, with_disk_timeout};
use http::{HeaderMap, StatusCode, header};
use http_front::{
    extract::{Path, path_number},
    openapi::{Conflict, Gone, InsufficientStorage},
};
use wire::{ChunkLayout, Digest, token::GrantPurpose};

use super::access::PresentedToken;
use crate::{
    error::{self, Error},
    state::AppState,
    tokens::permission::RequiredAccess,
};

/// The digest of the body (RFC 9530 §2).
const CONTENT_DIGEST: &str = "content-digest";

/// Receives one chunk of an upload; 201 only once it is synced, 204 when it was stored already.
#[utoipa::path(
    put,
    path = "/v1/files/{id}/chunks/{n}",
    tag = "Uploads",
    params(("id" = String, Path, description = "The file's id"), ("n" = String, Path, description = "The chunk's number, from 0"), ("content-digest" = String, Header, description = "`sha-256=:<base64>:` of the body (RFC 9530)")), request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "One chunk, of its whole length"), security(("upload" = [])),
    responses((status = 201, description = "Verified and synced"), (status = 204, description = "Stored already"), Conflict, Gone, InsufficientStorage)
)]
pub(super) async fn put_chunk(
    State(state): State<Arc<AppState>>,
    Path((id, n)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (parts, body) = request.into_parts();
    let access = PresentedToken::read(&state, &parts.headers)?.authorize(&state, &id, RequiredAccess::Write).await?;
    let GrantPurpose::Upload { size, chunk_size, .. } = access.grant.purpose else { return Err(Error::Forbidden) };
    let layout = ChunkLayout::checked(size, chunk_size)?;
    let n = path_number(&n).ok_or(Error::NoSuchChunk)?;
    let chunk = layout.chunk(n).ok_or(Error::NoSuchChunk)?;
    let digest = digest_of(&parts.headers).ok_or(Error::NoDigest)?;
    let place = layout.bytes_of(chunk);
    let expected = place.end - place.start;
    if declared_length(&parts.headers).is_some_and(|declared| declared != expected) {
        return Err(BlobError::Length { expected }.into());
    }
    let blob = with_disk_timeout(state.blobs.find_or_create(access.file, layout)).await?;
    // Boxed: the future of an upload is much larger than that of any other request.
    match Box::pin(state.blobs.receive_chunk(&blob, chunk, digest, body.into_data_stream())).await? {
        ChunkReceipt::Stored => {
            error::note_stored();
            Ok(StatusCode::CREATED)
        }
        ChunkReceipt::AlreadyStored => Ok(StatusCode::NO_CONTENT),
    }
}

fn digest_of(headers: &HeaderMap) -> Option<Digest> {
    Digest::from_field(headers.get(CONTENT_DIGEST)?.to_str().ok()?).ok()
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
