//! Files and their sources.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{IssuedToken, MissingChunks};
use crate::{ChunkSet, Digest, FileId, FileName, ServerId, Zone};

/// State of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Created; the quorum of replicas is not complete yet.
    Uploading,
    /// Committed: at least the quorum of servers holds it.
    Available,
    /// Being removed from the servers.
    Deleting,
}

impl FileState {
    /// Returns the word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Available => "available",
            Self::Deleting => "deleting",
        }
    }
}

/// Entry of the file list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileSummary {
    /// Identifier of the file (UUIDv7).
    pub id: FileId,
    /// Name under which clients save the file.
    pub name: FileName,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the content; `null` until the file is committed.
    pub sha256: Option<Digest>,
    /// Size in bytes of every chunk but the last.
    pub chunk_size: u64,
    /// Current state.
    pub state: FileState,
    /// Media type of the content (RFC 9110 §8.3), if the publisher gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Time at which the file was created in the catalogue.
    pub created_at: Timestamp,
    /// Number of complete replicas on live servers.
    pub live_replicas: u32,
    /// Number of chunks that no file server holds any more; absent while there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_chunks: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Answer of `GET /v1/files`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileList {
    /// Files, newest first.
    pub files: Vec<FileSummary>,
    /// Value of `cursor` for the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Answer of `GET /v1/files/{id}`: the file, its sources, and a token to read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDetails {
    /// Entry of the file list.
    #[serde(flatten)]
    pub summary: FileSummary,
    /// SHA-256 of the concatenated chunk digests; `null` until the file is committed.
    pub root: Option<Digest>,
    /// Servers to download from, best first.
    pub locations: Vec<Location>,
    /// New download token; absent if none was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<IssuedToken>,
    /// Bytes per second that the requesting file server may fetch from each other zone, from now
    /// on. A zone that is absent has no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pull_limits: BTreeMap<Zone, u64>,
    /// Chunks that no file server can send now; absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingChunks>,
}

/// Body of `PATCH /v1/files/{id}`. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FileChange {
    /// Name under which clients save the file from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
}

/// Source of a file's chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Location {
    /// File server that holds the chunks.
    pub server: ServerId,
    /// Zone of the file server.
    pub zone: Zone,
    /// URL of the content. It answers `GET` with a byte range and the download token.
    pub url: Url,
    /// Chunks that the server holds.
    pub runs: ChunkSet,
    /// Distance of the server's zone from the requester's zone: 0 for the same zone, otherwise the configured cost.
    #[serde(default)]
    pub cost: u8,
}
