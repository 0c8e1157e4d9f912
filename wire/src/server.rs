//! What a file server and the info-server say to each other over HTTP.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    Digest, Runs, ServerId, Zone,
    event::Stream,
    id::{Epoch, InstanceId},
};

/// Body of `PUT /v1/servers/{id}`: registration and heartbeat in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// Answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// The info-server's clock: the only one that expiry is measured by.
    pub now: Timestamp,
    /// The life of the catalogue.
    pub epoch: Epoch,
    /// The newest `seq` of each stream that concerns this server.
    pub streams: BTreeMap<Stream, u64>,
    /// Seconds without a heartbeat after which the server counts as dead.
    pub lease_s: u32,
    /// Whether the info-server could reach the reported address; until then nobody is sent there.
    pub reachable: bool,
}

/// Answer of a file server's `GET /livez`; the info-server compares it with who claims the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The server's id.
    pub server: ServerId,
    /// This start of the process.
    pub instance: InstanceId,
}

/// A live server as users see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// Answer of `GET /v1/servers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerList {
    /// The live servers, by id.
    pub servers: Vec<ServerInfo>,
}

/// Body of `POST /v1/tokens/introspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introspection {
    /// SHA-256 of the token's text.
    pub token_hash: Digest,
}

/// Body of `PUT /v1/files/{id}/replicas/{server}`: always the full state, so that a lost report costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Ascends with every report of this server; an older one that arrives late is ignored.
    pub counter: u64,
    /// The chunks that are verified and synced on this server's disk.
    pub runs: Runs,
    /// SHA-256 of the concatenated digests, once all chunks are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
}

/// Answer of a file server's `GET /v1/files/{id}/chunks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldChunks {
    /// The chunks that are verified and synced here.
    pub runs: Runs,
    /// SHA-256 of the concatenated digests, once all chunks are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
}
