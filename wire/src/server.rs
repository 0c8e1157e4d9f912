//! Bodies of the routes between file servers and the info-server.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    ChunkSet, Digest, FileId, ServerId, Zone,
    event::Stream,
    id::{Epoch, InstanceId},
};

/// Body of `PUT /v1/servers/{id}`: registration and heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// Zone of the file server.
    pub zone: Zone,
    /// Base URL at which clients reach the file server, such as `http://10.0.0.7:9000`.
    pub url: Url,
    /// Identifier of this start of the process, which tells two processes with the same server id apart.
    pub instance: InstanceId,
    /// SHA-256 of the server's own token, sent with the join secret at enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<Digest>,
    /// Number of requests that the server is answering.
    #[serde(default)]
    pub load: u32,
    /// Bytes that the server can still store.
    #[serde(default)]
    pub free_bytes: u64,
    /// Share of new replicas that the server receives, relative to the other servers of its zone: 1 by default; 0 for
    /// none.
    #[serde(default = "ordinary_weight")]
    pub weight: u32,
    /// Positions up to which the server has read its event streams; absent before the first contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<StreamCursors>,
}

/// Positions up to which a file server has read its event streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StreamCursors {
    /// Epoch that the sequence numbers belong to.
    pub epoch: Epoch,
    /// Sequence number of the last event read, by stream.
    pub streams: BTreeMap<Stream, u64>,
}

const fn ordinary_weight() -> u32 {
    1
}

/// Answer of `PUT /v1/servers/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// Time of the info-server, the only clock that expiry is measured by.
    pub now: Timestamp,
    /// Epoch of the catalogue. A restored database starts a new one.
    pub epoch: Epoch,
    /// Newest `seq` of each stream of this server.
    pub streams: BTreeMap<Stream, u64>,
    /// Newest `seq` of all streams, those of other servers included. The streams of this server have no event up to
    /// here other than those that `streams` covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// Seconds without a heartbeat after which the server is no longer live.
    pub lease_s: u32,
    /// Set if the info-server reached the server at its URL. Until then clients are not sent there.
    pub reachable: bool,
    /// Bytes per second that this server may fetch from each other zone: its share of the link between the two zones. A
    /// zone that is absent has no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pull_limits: BTreeMap<Zone, u64>,
}

/// Answer of a file server's `GET /livez`, with which the info-server verifies the URL of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerIdentity {
    /// Identifier of the file server.
    pub server: ServerId,
    /// Identifier of this start of the process.
    pub instance: InstanceId,
}

/// Live file server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerInfo {
    /// Identifier of the file server.
    pub id: ServerId,
    /// Zone of the file server.
    pub zone: Zone,
    /// Base URL of the file server.
    pub url: Url,
    /// Number of requests that the server was answering at its last heartbeat.
    pub load: u32,
    /// Bytes that the server can still store.
    pub free_bytes: u64,
    /// Time of the last heartbeat.
    pub last_seen: Timestamp,
    /// Share of new replicas that the server receives, relative to the other servers of its zone.
    #[serde(default = "ordinary_weight")]
    pub weight: u32,
    /// Set while the server is being drained: it serves what it holds and receives no new files.
    #[serde(default)]
    pub draining: bool,
}

/// Answer of `GET` and `POST /v1/servers/{id}/drain`: progress of draining a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DrainStatus {
    /// Identifier of the file server.
    pub server: ServerId,
    /// Set while the server is being drained.
    pub draining: bool,
    /// Number of files that the server must still hold, because no other server has taken them over yet.
    pub files: u64,
    /// Total size of these files in bytes.
    pub bytes: u64,
    /// Number of files, out of a sample of these, that no other server can take. They stay until one can.
    pub stuck: u32,
    /// Identifiers of some of the stuck files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck_files: Vec<FileId>,
}

/// Answer of `GET /v1/servers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerList {
    /// Live file servers, by id.
    pub servers: Vec<ServerInfo>,
}

/// Body of `POST /v1/tokens/introspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Introspection {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
}

/// Body of `PUT /v1/files/{id}/replicas/{server}`. It is always the full state, so that a lost report does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaReport {
    /// Number that ascends with every report of this server. A report with a lower number arrived late and is ignored.
    pub counter: u64,
    /// Chunks that are verified and synced on the server's disk.
    pub runs: ChunkSet,
    /// SHA-256 of the concatenated chunk digests; sent once all chunks are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// SHA-256 of the content; sent once the server has read the whole file back from its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Body of `POST /v1/servers/{id}/reconcile`: files on this server that neither the snapshot nor the log mentioned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReconcileRequest {
    /// Identifiers of at most 1,000 files; further ones go into further requests.
    pub files: Vec<FileId>,
}

/// Largest number of files in one [`ReconcileRequest`].
pub const MAX_RECONCILE: usize = 1000;

/// Answer of `POST /v1/servers/{id}/reconcile`. Each file of the request is in exactly one list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReconcileAnswer {
    /// Files to keep and serve.
    pub keep: Vec<FileId>,
    /// Files to delete: they were deleted, or are no longer assigned to this server.
    pub delete: Vec<FileId>,
    /// Files that are not in the catalogue, possibly because it was restored from a backup older than they are. The
    /// server keeps them, does not serve them, and counts them in its metrics.
    pub unknown: Vec<FileId>,
}

/// Answer of a file server's `GET /v1/files/{id}/chunks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldChunks {
    /// Chunks that are verified and synced on this server.
    pub runs: ChunkSet,
    /// SHA-256 of the concatenated chunk digests; sent once all chunks are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
}
