//! Errors of requests. One exhaustive match decides about the status; internal errors are logged here, once, and not sent to the
//! client.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use chunk_store::BlobError;
use http::{HeaderValue, header};
use http_front::problem_response::{ProblemResponse, unauthorized};
use lifecycle::fault_log::FaultLog;
use wire::{ChunkSet, Problem};

static DESCRIPTOR_FAULTS: FaultLog = FaultLog::new("A request was refused: too many files are open");
static SPACE_FAULTS: FaultLog = FaultLog::new("A request was refused: the volume has no space");
static DATABASE_FAULTS: FaultLog = FaultLog::new("A request failed: the database cannot be read or written");
static DISK_FAULTS: FaultLog = FaultLog::new("A request failed: the disk cannot be read or written");

/// Time without a failure after which a success ends the failures before it: requests run beside each other.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Seconds after which a client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Reason why a request fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No credentials.
    #[error("no token")]
    NoToken,
    /// Credentials that do not allow this. The response does not name the reason, of which there are many.
    #[error("not allowed")]
    Forbidden,
    /// The token has no record here, and the info-server does not answer.
    #[error("the token cannot be checked now")]
    Undecidable,
    /// The database cannot be read.
    #[error("the database failed")]
    DatabaseFailed,
    /// Another live process has this server's identity.
    #[error("another process has this identity")]
    IdentityConflict,
    /// The data folder is gone, or another one is in its place.
    #[error("the data folder is not the one of the start")]
    FolderReplaced,
    /// A valid token, but this server stores nothing of the file.
    #[error("nothing of the file is stored here")]
    NotHere,
    /// A valid token, but not all of the requested bytes are stored here.
    #[error("not all of the requested bytes are stored here")]
    NotHeld(ChunkSet),
    /// The file has no such chunk.
    #[error("no such chunk")]
    NoSuchChunk,
    /// The queue of chunks to verify is full.
    #[error("too many chunks wait to be verified")]
    TooManyReports,
    /// The request has no usable `Content-Digest`.
    #[error("no usable Content-Digest")]
    NoDigest,
    /// The grant contradicts itself.
    #[error("the token names an impossible layout")]
    ChunkLayout(#[from] wire::chunks::ChunkLayoutError),
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
                unavailable("undecidable", "The token cannot be checked now", "the info-server is away; try again")
            }
            Self::DatabaseFailed => database_failed(),
            Self::IdentityConflict => {
                unavailable("second-instance", "This server does not serve", "another live process has its identity")
            }
            Self::FolderReplaced => folder_replaced(),
            Self::NotHere => not_held(&ChunkSet::new()),
            Self::NotHeld(runs) => not_held(&runs),
            Self::NoSuchChunk => refuse(404, "no-such-chunk", "The file has no such chunk", ""),
            Self::TooManyReports => unavailable("busy", "Too many chunks are being verified", "report the chunk later"),
            Self::NoDigest => refuse(
                400,
                "digest-missing",
                "The chunk's digest is missing",
                "send Content-Digest: sha-256=:<base64>: (RFC 9530)",
            ),
            Self::ChunkLayout(error) => refuse(409, "layout", "The token does not fit the file", &error.to_string()),
            Self::Blob(error) => blob_failed(&error),
        }
    }
}

/// Notes that a file was opened: the failures of the database and of descriptors are over.
pub(crate) fn note_opened() {
    note_success(&[&DESCRIPTOR_FAULTS, &DATABASE_FAULTS]);
}

/// Notes that a chunk was stored: all failures are over.
pub(crate) fn note_stored() {
    note_success(&[&DESCRIPTOR_FAULTS, &SPACE_FAULTS, &DATABASE_FAULTS, &DISK_FAULTS]);
}

fn note_success(logs: &[&FaultLog]) {
    logs.iter().for_each(|log| log.succeeded_after(QUIET_TIME));
}

fn blob_failed(error: &BlobError) -> Response {
    let detail = error.to_string();
    match error {
        BlobError::DigestMismatch => {
            refuse(422, "digest-mismatch", "The chunk does not match its digest", "nothing was kept")
        }
        BlobError::ChunkConflict => refuse(409, "chunk-conflict", "The chunk is held with another digest", ""),
        BlobError::LayoutConflict => refuse(409, "layout", "The file is stored here with another size", ""),
        BlobError::Length { .. } => refuse(400, "length", "The body is not one chunk", &detail),
        BlobError::BodyStalled => refuse(408, "stalled", "The body stalled", ""),
        BlobError::BodyIncomplete => refuse(400, "broken-body", "The body ended early", ""),
        BlobError::ChunkBusy => {
            unavailable("busy", "Another request is writing this chunk", "list the chunks before you try again")
        }
        BlobError::Deleted => refuse(410, "deleted", "The file was deleted", ""),
        BlobError::Withheld => refuse(
            409,
            "unknown-file",
            "The catalogue does not have the file",
            "its stored chunks are kept and not served",
        ),
        BlobError::Unrecorded => {
            unavailable("busy", "Stored bytes of the file are being checked", "try again, or use another server")
        }
        BlobError::Disk(_) | BlobError::Records(_) if error.is_out_of_descriptors() => {
            DESCRIPTOR_FAULTS.failed(error);
            unavailable("exhausted", "This server has too many files open", "try again, or use another server")
        }
        // The volume's monitor logs it.
        BlobError::FolderReplaced(_) | BlobError::Disk(_) if error.is_folder_replaced() => folder_replaced(),
        // The volume's monitor logs the shortage itself.
        BlobError::Disk(_) | BlobError::Records(_) if error.is_full() => {
            SPACE_FAULTS.failed(error);
            refuse(507, "full", "This server's disk is full", "no files are taken in until space is freed")
        }
        BlobError::DiskTimeout => unavailable("stalled", "This server's disk does not respond", "use another server"),
        BlobError::Records(_) => {
            DATABASE_FAULTS.failed(error);
            database_failed()
        }
        BlobError::Disk(_) | BlobError::FolderReplaced(_) | BlobError::Unsynced => {
            DISK_FAULTS.failed(error);
            refuse(
                500,
                "disk",
                "This server's disk failed",
                "use another server; the operator finds the cause in its log",
            )
        }
    }
}

fn database_failed() -> Response {
    unavailable(
        "database",
        "This server's database failed",
        "use another server; the operator finds the cause in its log",
    )
}

fn folder_replaced() -> Response {
    unavailable(
        "folder-replaced",
        "This server's data folder is gone",
        "its disk may not be mounted; nothing is stored or served until it is; use another server",
    )
}

fn not_held(runs: &ChunkSet) -> Response {
    let problem = Problem::new(404, "not-held", "These bytes are not on this server")
        .with("runs", serde_json::to_value(runs).unwrap_or_default());
    ProblemResponse(problem).into_response()
}

/// Returns a 503 with a `Retry-After`.
fn unavailable(kind: &str, title: &str, detail: &str) -> Response {
    let mut response = refuse(503, kind, title, detail);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

fn refuse(status: u16, kind: &str, title: &str, detail: &str) -> Response {
    ProblemResponse(Problem::new(status, kind, title).detail(detail)).into_response()
}
