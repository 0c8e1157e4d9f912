//! Leases: the messages between a worker and the info-server.

use serde::{Deserialize, Serialize};

use super::JobReason;
use crate::{ChunkSet, Digest, FileId, OriginUrl, chunks::MAX_CHUNKS};

/// Body of `POST /v1/jobs/{id}/leases`, which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseClaim {
    /// Chunks of the job's file that the worker holds, sent while it has no lease. Chunks that the info-server had recorded for
    /// this worker and that are missing here, as after the loss of a disk, are fetched again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<ChunkSet>,
}

/// Answer of `POST /v1/jobs/{id}/leases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseOffer {
    /// Lease for the worker; absent when there is no span for it at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Milliseconds to wait before the next claim, if there was no lease. The status 410 means that there will be none.
    pub again_ms: u32,
}

/// Right and duty to fetch a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// Number of the lease, ascending within the job. Reports under a stale number are refused.
    pub fence: u64,
    /// Chunks to fetch.
    pub span: Span,
    /// Use of the chunks. Chunks fetched for comparison are hashed and not kept.
    pub purpose: SpanPurpose,
    /// Catalogue entry under which the chunks are stored.
    pub file: FileId,
    /// Size of the content in bytes.
    pub size: u64,
    /// Size in bytes of every chunk but the last.
    pub chunk_size: u64,
    /// URL to fetch.
    pub url: OriginUrl,
    /// Version of the content to fetch.
    pub validator: Validator,
    /// Number of connections to use at the origin.
    pub connections: u8,
    /// Seconds without a report after which the lease ends.
    pub lease_s: u32,
}

/// Half-open chunk interval `[a,b]` with `a < b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u32; 2]", into = "[u32; 2]")]
pub struct Span {
    start: u32,
    end: u32,
}

/// Error of two numbers that are not a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a span is a half-open interval of chunks [a,b] with a < b")]
pub struct SpanError;

impl Span {
    /// Returns the first chunk.
    pub const fn start(self) -> u32 {
        self.start
    }

    /// Returns the chunk after the last one.
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Returns the positions of the chunks.
    pub const fn range(self) -> std::ops::Range<u32> {
        self.start..self.end
    }
}

impl TryFrom<[u32; 2]> for Span {
    type Error = SpanError;

    fn try_from([start, end]: [u32; 2]) -> Result<Self, SpanError> {
        if start < end && end <= MAX_CHUNKS { Ok(Self { start, end }) } else { Err(SpanError) }
    }
}

impl From<Span> for [u32; 2] {
    fn from(Span { start, end }: Span) -> Self {
        [start, end]
    }
}

/// Use of a span's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SpanPurpose {
    /// The chunks are stored and served: no other worker has them.
    Fetch,
    /// The chunks are hashed and compared with those of another worker.
    Check,
}

/// Version of an origin's content (RFC 9110 §8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// Strong entity tag, with its quotes.
    Etag(String),
    /// Date of the last modification, as the origin wrote it, old enough to be a strong validator (RFC 9110 §8.8.2.2).
    LastModified(String),
    /// No validator: only the SHA-256 of the whole content can show a change.
    None,
}

/// Position and SHA-256 of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChunkDigest {
    /// Position of the chunk, counted from 0.
    pub n: u32,
    /// SHA-256 of the chunk.
    pub sha256: Digest,
}

/// Body of `PUT /v1/jobs/{id}/leases/{fence}`: renewal and result in one. A chunk may be reported more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseReport {
    /// Chunks of the span that were fetched, synced and are served (or, for comparison, only hashed), with their digests; at
    /// most 1,024.
    #[serde(default)]
    pub chunks: Vec<ChunkDigest>,
    /// Bytes received from the origin since the lease began, including those that were discarded.
    #[serde(default)]
    pub bytes: u64,
    /// Reason why the rest of the span will not be fetched; the lease then ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<SpanFailure>,
}

/// Failure of a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SpanFailure {
    /// Cause: an error of the origin, or *workers-failed* for an error of the worker itself, such as a full or failing disk.
    pub reason: JobReason,
    /// Seconds until the origin may be asked again, if the origin gave a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// Answer of `PUT /v1/jobs/{id}/leases/{fence}`. After 409 `stale-fence` the worker drops the rest of the span; 410 means that
/// the job is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseRenewal {
    /// Present span. Its end may be lower than before, because another worker received the rest. Absent when all chunks were
    /// reported: the lease is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Seconds without a report after which the lease ends.
    pub lease_s: u32,
}
