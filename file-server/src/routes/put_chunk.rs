//! `PUT /v1/files/{id}/chunks/{n}`.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::{HeaderMap, StatusCode, header};
use lifecycle::http::Path;
use wire::{Digest, Layout, token::Purpose};

use super::access::Claim;
use crate::{
    blobs::{BlobError, Received},
    error::Error,
    server::Server,
    tokens::Need,
};

/// The digest of the body (RFC 9530 §2).
const CONTENT_DIGEST: &str = "content-digest";

/// Takes one chunk of an upload; 201 only once it is synced, 204 when it was there already.
pub(super) async fn put_chunk(
    State(server): State<Arc<Server>>,
    Path((id, n)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (parts, body) = request.into_parts();
    let access = Claim::read(&server, &parts)?.judge(&server, &id, Need::Write).await?;
    let Purpose::Upload { size, chunk_size, .. } = access.grant.purpose else { return Err(Error::Forbidden) };
    let layout = Layout::checked(size, chunk_size)?;
    let n = n.parse().map_err(|_| Error::NoSuchChunk)?;
    let chunk = layout.chunk(n).ok_or(Error::NoSuchChunk)?;
    let digest = digest_of(&parts.headers).ok_or(Error::NoDigest)?;
    let place = layout.bytes_of(chunk);
    let expected = place.end - place.start;
    if declared_length(&parts.headers).is_some_and(|declared| declared != expected) {
        return Err(BlobError::Length { expected }.into());
    }
    let blob = server.blobs.find_or_make(access.file, layout).await?;
    // Boxed: the future of an upload is much larger than that of any other request.
    match Box::pin(server.blobs.receive(&blob, chunk, digest, body)).await? {
        Received::Now => Ok(StatusCode::CREATED),
        Received::Before => Ok(StatusCode::NO_CONTENT),
    }
}

fn digest_of(headers: &HeaderMap) -> Option<Digest> {
    Digest::from_field(headers.get(CONTENT_DIGEST)?.to_str().ok()?).ok()
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
