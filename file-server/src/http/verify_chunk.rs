//! `POST /v1/files/{id}/chunks/{n}/verify`.

use std::{sync::Arc, time::Instant};

use axum::extract::{Request, State};
use chunk_store::{ReportReceipt, ReportedChunk, with_disk_timeout};
use http::StatusCode;
use http_front::{
    extract::{Path, path_number},
    openapi::NotHeld,
};

use super::access::PresentedToken;
use crate::{error::Error, state::AppState, tokens::permission::RequiredAccess};

/// Has a chunk read again, of which the caller received bytes that do not match its digest. The caller is not believed: the
/// server compares the chunk itself, and repairs it if it is corrupt. Each chunk is read once a minute at most.
#[utoipa::path(
    post,
    path = "/v1/files/{id}/chunks/{n}/verify",
    tag = "Repairs",
    params(("id" = String, Path, description = "The file's id"), ("n" = String, Path, description = "The chunk's number, from 0")), security(("download" = [])),
    responses((status = 202, description = "The chunk will be verified"), (status = 204, description = "It waits already, or was verified within the last minute"), NotHeld)
)]
pub(super) async fn verify_chunk(
    State(state): State<Arc<AppState>>,
    Path((id, n)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (parts, _) = request.into_parts();
    let access = PresentedToken::read(&state, &parts.headers)?.authorize(&state, &id, RequiredAccess::Read).await?;
    let n = path_number(&n).ok_or(Error::NoSuchChunk)?;
    let blob = with_disk_timeout(state.blobs.find(access.file)).await?.ok_or(Error::NotHere)?;
    let chunk = blob.layout().chunk(n).ok_or(Error::NoSuchChunk)?;
    if !blob.holds(chunk) {
        return Err(Error::NotHeld(blob.progress().0));
    }
    let reported = ReportedChunk { file: access.file, chunk: n };
    match state.blobs.chunk_checks().report(reported, Instant::now()) {
        ReportReceipt::Queued => {
            state.metrics.chunk_reports.inc();
            // By this id the info-server's log shows who holds the token.
            tracing::info!(file = %access.file, chunk = n, token = %access.grant.token_id, "Chunk {n} of file {} is reported as wrong: reading it again", access.file);
            Ok(StatusCode::ACCEPTED)
        }
        ReportReceipt::Recent => Ok(StatusCode::NO_CONTENT),
        ReportReceipt::Busy => Err(Error::TooManyReports),
    }
}
