//! What a file server and the info-server say to each other over HTTP.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    Digest, FileId, Runs, ServerId, Zone,
    event::Stream,
    id::{Epoch, InstanceId},
};

/// Body of `PUT /v1/servers/{id}`: registration and heartbeat in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// Where the server stands.
    pub zone: Zone,
    /// The base address at which clients reach it, e.g. `http://10.0.0.7:9000`.
    pub url: Url,
    /// This start of the process.
    pub instance: InstanceId,
    /// SHA-256 of the server's own token, sent with the join secret when it enrols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<Digest>,
    /// Requests being answered.
    #[serde(default)]
    pub load: u32,
    /// Bytes it could still store.
    #[serde(default)]
    pub free_bytes: u64,
    /// How much of a zone's files it should hold beside the others; 1 is ordinary, 0 takes no new ones.
    #[serde(default = "ordinary_weight")]
    pub weight: u32,
    /// How far it has read its streams; nothing before its first contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// How far a file server has read its streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Seen {
    /// The life of the catalogue that the numbers count in.
    pub epoch: Epoch,
    /// The number up to which all facts of each stream were taken in.
    pub streams: BTreeMap<Stream, u64>,
}

const fn ordinary_weight() -> u32 {
    1
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// The info-server's clock: the only one that expiry is measured by.
    pub now: Timestamp,
    /// The life of the catalogue.
    pub epoch: Epoch,
    /// The newest `seq` of each stream that concerns this server.
    pub streams: BTreeMap<Stream, u64>,
    /// The newest `seq` of all streams, also those of others: what `streams` does not name up to here does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// Seconds without a heartbeat after which the server counts as dead.
    pub lease_s: u32,
    /// Whether the info-server could reach the reported address; until then nobody is sent there.
    pub reachable: bool,
    /// Bytes a second that this server may pull from each other zone at present: its share of that link. A zone that is
    /// not named is not limited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pull_limits: BTreeMap<Zone, u64>,
}

/// Answer of a file server's `GET /livez`; the info-server compares it with who claims the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// The server's id.
    pub server: ServerId,
    /// This start of the process.
    pub instance: InstanceId,
}

/// A live server as users see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerInfo {
    /// Its id.
    pub id: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// Its base address.
    pub url: Url,
    /// Requests being answered at its last heartbeat.
    pub load: u32,
    /// Bytes it could still store.
    pub free_bytes: u64,
    /// When its last heartbeat came.
    pub last_seen: Timestamp,
    /// How much of a zone's files it should hold beside the others.
    #[serde(default = "ordinary_weight")]
    pub weight: u32,
    /// Whether it is being emptied: it serves what it holds and takes no new files.
    #[serde(default)]
    pub draining: bool,
}

/// Answer of `GET` and `POST /v1/servers/{id}/drain`: how far the emptying of a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DrainStatus {
    /// The server.
    pub server: ServerId,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Files that it is still to hold, because nobody else does yet.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of some of these files, those for which there is no other server: they stay until there is.
    pub stuck: u32,
    /// A few of these, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck_files: Vec<FileId>,
}

/// Answer of `GET /v1/servers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerList {
    /// The live servers, by id.
    pub servers: Vec<ServerInfo>,
}

/// Body of `POST /v1/tokens/introspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Introspection {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
}

/// Body of `PUT /v1/files/{id}/replicas/{server}`: always the full state, so that a lost report costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaReport {
    /// Ascends with every report of this server; an older one that arrives late is ignored.
    pub counter: u64,
    /// The chunks that are verified and synced on this server's disk.
    pub runs: Runs,
    /// SHA-256 of the concatenated digests, once all chunks are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// SHA-256 of the content, once this server has read the whole file back from its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Body of `POST /v1/servers/{id}/reconcile`: files held here that the snapshot or the log did not mention.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reconcile {
    /// At most [`MAX_RECONCILE`] of them; the rest goes into further requests.
    pub files: Vec<FileId>,
}

/// Files in one [`Reconcile`].
pub const MAX_RECONCILE: usize = 1000;

/// Answer to [`Reconcile`]; each file asked about is in exactly one list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reconciled {
    /// To be kept and served.
    pub keep: Vec<FileId>,
    /// Deleted, or no longer wanted on this server: to be dropped.
    pub delete: Vec<FileId>,
    /// Not in the catalogue, which may have been restored from before their time: kept, not served, reported to the
    /// operator.
    pub unknown: Vec<FileId>,
}

/// Answer of a file server's `GET /v1/files/{id}/chunks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeldChunks {
    /// The chunks that are verified and synced here.
    pub runs: Runs,
    /// SHA-256 of the concatenated digests, once all chunks are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
}
