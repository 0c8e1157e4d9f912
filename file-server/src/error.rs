//! Errors as answers: one exhaustive match decides the status. What went wrong inside is logged here, once, and not told.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use lifecycle::http::{Refusal, unauthorized};
use wire::{Problem, Runs};

use crate::blobs::BlobError;

/// Seconds after which what could not be decided may be asked again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No credentials.
    #[error("no token")]
    NoToken,
    /// Credentials that do not allow this. Which of the many reasons it was is nobody's business.
    #[error("not allowed")]
    Forbidden,
    /// Nobody can say now whether the credentials allow this.
    #[error("the token cannot be judged now")]
    Undecidable,
    /// Another live process has this server's identity.
    #[error("another process has this identity")]
    Usurped,
    /// A valid token, but this server has nothing of the file.
    #[error("nothing of the file is here")]
    NotHere,
    /// A valid token, but not all that was asked for is here.
    #[error("not all of it is here")]
    NotHeld(Runs),
    /// The file has no such chunk.
    #[error("no such chunk")]
    NoSuchChunk,
    /// There is no usable `Content-Digest`.
    #[error("no digest")]
    NoDigest,
    /// The grant contradicts itself.
    #[error("the token names an impossible layout")]
    Layout(#[from] wire::chunks::LayoutError),
    /// Reading or writing failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::NoToken => unauthorized("send the file's token as Authorization: Bearer"),
            Self::Forbidden => refuse(403, "forbidden", "The token does not allow this", ""),
            Self::Undecidable => {
                later("undecidable", "The token cannot be judged now", "the info-server is away; try again")
            }
            Self::Usurped => {
                later("second-instance", "This server does not serve", "another live process has its identity")
            }
            Self::NotHere => not_held(&Runs::new()),
            Self::NotHeld(runs) => not_held(&runs),
            Self::NoSuchChunk => refuse(404, "no-such-chunk", "The file has no such chunk", ""),
            Self::NoDigest => refuse(
                400,
                "digest-missing",
                "The chunk's digest is missing",
                "send Content-Digest: sha-256=:<base64>: (RFC 9530)",
            ),
            Self::Layout(error) => refuse(409, "layout", "The token does not fit the file", &error.to_string()),
            Self::Blob(error) => blob_failed(&error),
        }
    }
}

fn blob_failed(error: &BlobError) -> Response {
    let told = error.to_string();
    match error {
        BlobError::Mismatch => {
            refuse(422, "digest-mismatch", "The chunk does not match its digest", "nothing was kept")
        }
        BlobError::Conflict => refuse(409, "chunk-conflict", "The chunk is held with another digest", ""),
        BlobError::Layout => refuse(409, "layout", "The file is known here with another size", ""),
        BlobError::Length { .. } => refuse(400, "length", "The body is not one chunk", &told),
        BlobError::Stalled => refuse(408, "stalled", "The body stopped coming", ""),
        BlobError::Broken => refuse(400, "broken-body", "The body broke off", ""),
        BlobError::Busy => later("busy", "Somebody else is writing this chunk", "see whether it is held then"),
        BlobError::Deleted => refuse(410, "deleted", "The file was deleted", ""),
        BlobError::Unknown => {
            refuse(409, "unknown-file", "The catalogue does not know the file", "what is held of it is set aside")
        }
        BlobError::Disk(_) | BlobError::Store(_) if error.is_exhausted() => {
            tracing::warn!(%error, "no file could be opened for a request: too many are open");
            later("exhausted", "This server has too many files open", "try again, or ask another server")
        }
        // The room that is left is looked at all the time; that it is gone is said there.
        BlobError::Disk(_) | BlobError::Store(_) if error.is_full() => {
            tracing::warn!(%error, "a request was refused for want of room");
            refuse(507, "full", "This server's disk is full", "nothing is taken in until there is room again")
        }
        BlobError::Hung => later("stalled", "This server's disk does not answer", "go to another server"),
        BlobError::Disk(_) | BlobError::Unsynced | BlobError::Store(_) => {
            tracing::error!(%error, "a request failed");
            refuse(500, "internal", "This server failed", "")
        }
    }
}

fn not_held(runs: &Runs) -> Response {
    let problem = Problem::new(404, "not-held", "These bytes are not on this server")
        .with("runs", serde_json::to_value(runs).unwrap_or_default());
    Refusal(problem).into_response()
}

fn later(word: &str, title: &str, detail: &str) -> Response {
    let mut response = refuse(503, word, title, detail);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

fn refuse(status: u16, word: &str, title: &str, detail: &str) -> Response {
    Refusal(Problem::new(status, word, title).detail(detail)).into_response()
}
