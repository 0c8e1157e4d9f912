//! `PUT /v1/files/{id}/chunks/{n}`.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::{HeaderMap, StatusCode, header};
use lifecycle::{
    api::{Conflict, Full, Gone},
    http::{Path, number},
};
use wire::{Digest, Layout, token::Purpose};

use super::access::Claim;
use crate::{
    blobs::{BlobError, Received, in_time},
    error::Error,
    server::Server,
    tokens::Need,
};

/// The digest of the body (RFC 9530 §2).
const CONTENT_DIGEST: &str = "content-digest";

/// Takes one chunk of an upload; 201 only once it is synced, 204 when it was there already.
#[utoipa::path(
    put,
    path = "/v1/files/{id}/chunks/{n}",
    tag = "Uploads",
    params(("id" = String, Path, description = "The file's id"), ("n" = String, Path, description = "The chunk's number, from 0"), ("content-digest" = String, Header, description = "`sha-256=:<base64>:` of the body (RFC 9530)")), request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "One chunk, of the length that its place calls for"), security(("upload" = [])),
    responses((status = 201, description = "Verified and synced"), (status = 204, description = "It was there already"), Conflict, Gone, Full)
)]
pub(super) async fn put_chunk(
    State(server): State<Arc<Server>>,
    Path((id, n)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (parts, body) = request.into_parts();
    let access = Claim::read(&server, &parts)?.judge(&server, &id, Need::Write).await?;
    let Purpose::Upload { size, chunk_size, .. } = access.grant.purpose else { return Err(Error::Forbidden) };
    let layout = Layout::checked(size, chunk_size)?;
    let n = number(&n).ok_or(Error::NoSuchChunk)?;
    let chunk = layout.chunk(n).ok_or(Error::NoSuchChunk)?;
    let digest = digest_of(&parts.headers).ok_or(Error::NoDigest)?;
    let place = layout.bytes_of(chunk);
    let expected = place.end - place.start;
    if declared_length(&parts.headers).is_some_and(|declared| declared != expected) {
        return Err(BlobError::Length { expected }.into());
    }
    let blob = in_time(server.blobs.find_or_make(access.file, layout)).await?;
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
