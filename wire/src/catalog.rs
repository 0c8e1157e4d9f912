//! What users and the info-server say to each other over HTTP.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    Digest, FileId, FileName, Layout, Runs, ServerId, SessionId, TokenId, Zone, chunks::LayoutError, token::Token,
};

/// Body of `POST /v1/sessions`.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Login {
    /// The account's name.
    pub email: String,
    /// Its password.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Password))]
    pub password: secrecy::SecretString,
    /// Where its holder is: the zone of every request of the session that names none.
    #[serde(default)]
    pub zone: Option<Zone>,
}

/// Answer of `POST /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Sent with every further request.
    pub token: Token,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An open session as its owner sees it in `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionInfo {
    /// Its public name, for `DELETE /v1/sessions/{id}`.
    pub id: SessionId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The address it was opened from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Answer of `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// The open sessions, newest first.
    pub sessions: Vec<SessionInfo>,
}

/// What a file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Announced; the quorum of replicas is not there yet.
    Uploading,
    /// Stands on at least the quorum of servers.
    Available,
    /// Being removed from the servers.
    Deleting,
}

impl FileState {
    /// The word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Available => "available",
            Self::Deleting => "deleting",
        }
    }
}

/// One row of the file list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileSummary {
    /// Its id.
    pub id: FileId,
    /// Its name.
    pub name: FileName,
    /// Bytes in it.
    pub size: u64,
    /// SHA-256 of the content, once it is committed.
    pub sha256: Option<Digest>,
    /// Bytes in every chunk but the last.
    pub chunk_size: u64,
    /// What it is now.
    pub state: FileState,
    /// What kind of content it is (RFC 9110 §8.3), if the publisher said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// When it was announced.
    pub created_at: Timestamp,
    /// Complete replicas on live servers.
    pub live_replicas: u32,
}

/// Answer of `GET /v1/files`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileList {
    /// The files, newest first.
    pub files: Vec<FileSummary>,
    /// Passed as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Answer of `GET /v1/files/{id}`: where to get the file and the right to do so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDetails {
    /// The row of the list.
    #[serde(flatten)]
    pub summary: FileSummary,
    /// SHA-256 of the concatenated chunk digests, once it is committed.
    pub root: Option<Digest>,
    /// Sources, best first.
    pub locations: Vec<Location>,
    /// A fresh token; absent when none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<IssuedToken>,
    /// For a file server that is sent to other zones: bytes a second that it may fetch from each from now on. A zone that is not
    /// named is not limited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pull_limits: BTreeMap<Zone, u64>,
}

/// A source of a file's chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Location {
    /// The server.
    pub server: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// The address of the content itself: `GET` it with a range and the token.
    pub url: Url,
    /// The chunks it holds.
    pub runs: Runs,
    /// How far it is from whoever asked: 0 in the own zone, else the configured cost between the two zones.
    #[serde(default)]
    pub cost: u8,
}

/// A token just made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedToken {
    /// The secret; shown only now.
    pub token: Token,
    /// Its public name.
    pub token_id: TokenId,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Body of `POST /v1/files/{id}/tokens`; everything is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// Seconds it should live; at most the server's own setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub lifetime_s: Option<u32>,
    /// The only zones it should work in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 32))]
    pub zones: Option<Vec<Zone>>,
}

/// Body of `POST /v1/files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewFile {
    /// Its name.
    pub name: FileName,
    /// Bytes in it.
    #[cfg_attr(feature = "openapi", schema(maximum = 1_125_899_906_842_624_u64))]
    pub size: u64,
    /// What kind of content it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 255, pattern = "^[ -~]*/[ -~]*$"))]
    pub media_type: Option<String>,
    /// Where it should stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// How many servers must hold it, synced, before it counts as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub quorum: Option<u32>,
    /// Where the publisher is, that of the session when it is left out: the upload goes to servers of this zone if the file is
    /// to stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
}

/// Where a file should stand. What is absent is the info-server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// On how many servers: of each zone when zones are named, in all when none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// The zones it is to stand in, and the only ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Zone>>,
    /// A server that must be among them: the one that imports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<ServerId>,
}

/// Answer of `GET /v1/files/{id}/replicas`: where a file should stand and where it verifiably does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaStatus {
    /// The file.
    pub file: FileId,
    /// Chunks in it.
    pub chunks: u32,
    /// Whether every zone has as many complete, verified replicas on live servers as it should.
    pub replicated: bool,
    /// By zone, what is wanted and what is there. The key is empty when the policy names no zones.
    pub zones: BTreeMap<String, ZoneStatus>,
    /// Every server that holds, held or is to hold chunks of it, by id.
    pub replicas: Vec<ReplicaInfo>,
    /// Holders of these very chunks that found another SHA-256 of the whole than the publisher said: the chunks are right, the
    /// publisher's word is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disputes: Vec<Dispute>,
}

/// A holder's word against the publisher's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Dispute {
    /// The server.
    pub server: ServerId,
    /// What it computed.
    pub sha256: Digest,
}

/// One zone's share of a [`ReplicaStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ZoneStatus {
    /// Complete replicas that should stand there.
    pub wanted: u32,
    /// Complete, verified replicas on live servers.
    pub complete: u32,
    /// Live servers that could take a replica, those that have one included.
    pub servers: u32,
}

/// One server's share of a [`ReplicaStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaInfo {
    /// The server.
    pub server: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// Whether its lease runs.
    pub live: bool,
    /// Whether it is to hold the file.
    pub assigned: bool,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Chunks that it verified on its own disk.
    pub verified: u32,
}

/// Body of `POST /v1/files/{id}/preheat`: a zone in which the file is to stand as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Preheat {
    /// The zone.
    pub zone: Zone,
    /// On how many of its servers; the info-server's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

/// Answer of `POST /v1/files`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadPlan {
    /// The new file's id.
    pub id: FileId,
    /// Bytes in every chunk but the last.
    pub chunk_size: u64,
    /// Replicas that must report before the commit succeeds.
    pub quorum: u32,
    /// The right to write the chunks.
    pub upload: IssuedToken,
    /// Where to write them.
    pub targets: Vec<Target>,
}

/// A server that is to take an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Target {
    /// The server.
    pub server: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// The address of its chunks: `PUT` chunk *n* at `<url>/<n>`, `GET` it to see which are there.
    pub url: Url,
}

/// Body of `POST /v1/files/{id}/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Commit {
    /// SHA-256 of the content, as the publisher computed it.
    pub sha256: Digest,
    /// SHA-256 of each chunk, in order.
    pub chunks: Vec<Digest>,
}

/// Body of `POST /v1/files/{id}/adopt`: a file that servers hold and the catalogue does not know, as after the restore of an older
/// backup, is taken in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// The name it gets.
    pub name: FileName,
    /// Bytes in it.
    #[cfg_attr(feature = "openapi", schema(maximum = 1_125_899_906_842_624_u64))]
    pub size: u64,
    /// Bytes in every chunk but the last.
    pub chunk_size: u64,
    /// SHA-256 of the content, as a holder read it back from its disk.
    pub sha256: Digest,
    /// SHA-256 of each chunk, in order.
    pub chunks: Vec<Digest>,
    /// Where it should stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Answer of `GET /v1/files/{id}/manifest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Manifest {
    /// The file.
    pub file: FileId,
    /// Bytes in it.
    pub size: u64,
    /// Bytes in every chunk but the last.
    pub chunk_size: u64,
    /// SHA-256 of the content, once it is known.
    pub sha256: Option<Digest>,
    /// SHA-256 of the concatenated chunk digests, once all are known.
    pub root: Option<Digest>,
    /// SHA-256 of each chunk, in order; `null` where it is not known yet.
    pub chunks: Vec<Option<Digest>>,
}

/// Why a manifest contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Size and chunk size do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Not one entry per chunk.
    #[error("a file of this size has {expected} chunks, the manifest lists {found}")]
    Count {
        /// What the size calls for.
        expected: u32,
        /// What is listed.
        found: usize,
    },
    /// The digests do not give the root.
    #[error("the root is not the SHA-256 of the listed digests")]
    Root,
}

impl Manifest {
    /// Checks the manifest against itself.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn check(&self) -> Result<Layout, ManifestError> {
        let layout = Layout::checked(self.size, self.chunk_size)?;
        if usize::try_from(layout.count()) != Ok(self.chunks.len()) {
            return Err(ManifestError::Count { expected: layout.count(), found: self.chunks.len() });
        }
        let complete: Option<Vec<Digest>> = self.chunks.iter().copied().collect();
        match (self.root, complete) {
            (Some(root), Some(chunks)) if Digest::root_of(&chunks) == root => Ok(layout),
            (None, _) => Ok(layout),
            (Some(_), _) => Err(ManifestError::Root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        let chunk = Digest::of(b"x");
        let good = Manifest {
            file: FileId::new(),
            size: 1,
            chunk_size: 1 << 20,
            sha256: Some(chunk),
            root: Some(Digest::root_of([&chunk])),
            chunks: vec![Some(chunk)],
        };
        assert!(good.check().is_ok());
        assert!(Manifest { root: None, chunks: vec![None], ..good.clone() }.check().is_ok());
        assert_eq!(Manifest { root: Some(chunk), ..good.clone() }.check(), Err(ManifestError::Root));
        assert_eq!(Manifest { chunks: vec![None], ..good.clone() }.check(), Err(ManifestError::Root));
        assert!(matches!(Manifest { chunks: vec![], ..good.clone() }.check(), Err(ManifestError::Count { .. })));
        assert!(matches!(Manifest { chunk_size: 1, ..good.clone() }.check(), Err(ManifestError::Layout(_))));
        assert!(matches!(Manifest { size: u64::MAX, ..good }.check(), Err(ManifestError::Layout(_))));
    }
}
