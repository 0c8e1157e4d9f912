//! Requests of the processes that want a job's file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ChunkSet, Digest, FileName, OriginUrl, RequesterId, Zone};

/// Body of `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// URL of the file to fetch.
    pub url: OriginUrl,
    /// SHA-256 that the content must have. When absent, the origin is asked for a digest; if it gives none, a sample of chunks is
    /// fetched by two workers and compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Number of connections that each span uses at the origin, 1 to 16; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 16))]
    pub connections: Option<u8>,
    /// Start time; the job starts at once when this is absent or in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Set if the result is to become a file of the catalogue, visible to the job's requesters only, until it expires.
    #[serde(default)]
    pub keep: bool,
    /// Zones whose file servers may work on the job; all zones when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 32))]
    pub zones: Option<Vec<Zone>>,
    /// Name of the result; when absent, it is derived from the URL or from the origin's response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
}

/// Query parameters of a requester on the routes of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct RequesterQuery {
    /// Identifier (UUID) that the requesting process chose for itself, so that two processes of one account join and leave a
    /// job independently. When absent, the account as a whole is the requester.
    #[serde(default, rename = "asker", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub requester: Option<RequesterId>,
}

/// Query parameters of `GET /v1/jobs/{id}/events`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct JobEventsQuery {
    /// Identifier of the requester, see the other routes of jobs.
    #[serde(default, rename = "asker", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline))]
    pub requester: Option<RequesterId>,
    /// Set if the answer is to end after the present state, for a requester behind a proxy that holds back open streams.
    #[serde(default)]
    pub once: bool,
}

/// Body of `PUT /v1/jobs/{id}/progress`: the chunks that a requester has. A report renews the requester's lease on the job. When
/// a worker is lost, chunks that every requester has are not fetched again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RequesterProgress {
    /// Chunks that the requester verified and wrote.
    pub runs: ChunkSet,
    /// SHA-256 of the whole content, once the requester has computed it. If it differs from the expected one, every chunk is
    /// verified again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}
