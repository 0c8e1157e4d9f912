//! Publication: upload, commit, adoption.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{IssuedToken, Policy};
use crate::{Digest, FileId, FileName, ServerId, Zone};

/// Body of `POST /v1/files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewFile {
    /// Name under which clients save the file.
    pub name: FileName,
    /// Size of the file in bytes.
    #[cfg_attr(feature = "openapi", schema(maximum = 1_125_899_906_842_624_u64))]
    pub size: u64,
    /// Media type of the content (RFC 9110 §8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 255, pattern = "^[ -~]*/[ -~]*$"))]
    pub media_type: Option<String>,
    /// Servers and zones that are to hold the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Number of servers that must hold the file, synced to disk, before it can be committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub quorum: Option<u32>,
    /// Zone of the publisher; when absent, the zone of the session. The upload goes to servers of this zone if the file
    /// may be stored there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
}

/// Answer of `POST /v1/files`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadPlan {
    /// Identifier of the new file (UUIDv7).
    pub id: FileId,
    /// Size in bytes of every chunk but the last.
    pub chunk_size: u64,
    /// Number of complete replicas that a commit requires.
    pub quorum: u32,
    /// Upload token for the chunks of the file.
    pub upload: IssuedToken,
    /// Servers to upload to.
    pub targets: Vec<UploadTarget>,
}

/// File server that accepts an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadTarget {
    /// Identifier of the file server.
    pub server: ServerId,
    /// Zone of the file server.
    pub zone: Zone,
    /// URL of the file's chunks: `PUT` to `<url>/<n>` uploads chunk *n*, `GET` of the URL lists the chunks that the
    /// server has.
    pub url: Url,
}

/// Body of `POST /v1/files/{id}/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommitRequest {
    /// SHA-256 of the content, computed by the publisher.
    pub sha256: Digest,
    /// SHA-256 of each chunk, in order.
    pub chunks: Vec<Digest>,
}

/// Body of `POST /v1/files/{id}/adopt`, which restores a file that servers hold but the catalogue does not, as after
/// the restore of an older backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// Name under which clients save the file.
    pub name: FileName,
    /// Size of the file in bytes.
    #[cfg_attr(feature = "openapi", schema(maximum = 1_125_899_906_842_624_u64))]
    pub size: u64,
    /// Size in bytes of every chunk but the last.
    pub chunk_size: u64,
    /// SHA-256 of the content, as a file server read it back from its disk.
    pub sha256: Digest,
    /// SHA-256 of each chunk, in order.
    pub chunks: Vec<Digest>,
    /// Servers and zones that are to hold the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}
