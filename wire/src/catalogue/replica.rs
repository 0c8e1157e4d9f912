//! Placement policy and replicas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ChunkSet, Digest, FileId, ServerId, Zone};

/// Servers and zones that are to hold a file. A member that is absent has the info-server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Number of replicas: in each of the named zones, or in total if no zone is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Zones that are to hold the file; no other zone holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Zone>>,
    /// File server that must hold a replica: the one that imports the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<ServerId>,
}

/// Answer of `GET /v1/files/{id}/replicas`: the planned and the verified replicas of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaStatus {
    /// Identifier of the file.
    pub file: FileId,
    /// Number of chunks in the file.
    pub chunks: u32,
    /// Set if every zone has the planned number of complete, verified replicas on live servers.
    pub replicated: bool,
    /// Planned and actual replicas by zone. The key is empty if the policy names no zones.
    pub zones: BTreeMap<String, ZoneStatus>,
    /// Servers that hold, have held or are to hold chunks of the file, by id.
    pub replicas: Vec<ReplicaInfo>,
    /// Servers whose chunks match the manifest but whose SHA-256 of the whole content differs from the one that the
    /// publisher gave. The chunks are correct; the publisher's SHA-256 is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disputes: Vec<DigestConflict>,
    /// Chunks that no file server can send now; absent while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<MissingChunks>,
}

/// Chunks of a published file that no file server can send now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MissingChunks {
    /// Chunks that no live file server holds.
    pub unavailable: ChunkSet,
    /// Part of `unavailable` that no other file server holds either, so that it does not come back with a server that is away.
    pub lost: ChunkSet,
    /// Known causes, by server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<MissingCause>,
}

/// Cause, at one file server, for which chunks are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MissingCause {
    /// File server.
    pub server: ServerId,
    /// Chunks that it cannot send.
    pub chunks: ChunkSet,
    /// Cause.
    pub reason: MissingReason,
}

/// Reason for which a file server cannot send chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MissingReason {
    /// The server holds them and is away.
    Away,
    /// The server had verified them, and found them damaged or gone since.
    Lost,
    /// The server is to hold them and never had them.
    NeverStored,
}

/// SHA-256 that contradicts the publisher's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DigestConflict {
    /// File server that computed the digest.
    pub server: ServerId,
    /// SHA-256 that the file server computed.
    pub sha256: Digest,
}

/// Planned and actual replicas in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ZoneStatus {
    /// Number of complete replicas that the zone is to have.
    pub wanted: u32,
    /// Number of complete, verified replicas on live servers.
    pub complete: u32,
    /// Number of live servers that hold a replica or could take one.
    pub servers: u32,
}

/// Replica on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaInfo {
    /// File server of the replica.
    pub server: ServerId,
    /// Zone of the file server.
    pub zone: Zone,
    /// Set while the server's lease has not expired.
    pub live: bool,
    /// Set if the server is to hold the file.
    pub assigned: bool,
    /// Set while the server is being drained.
    pub draining: bool,
    /// Number of chunks that the server has verified on its own disk.
    pub verified: u32,
}

/// Answer of `GET /v1/files/{id}/policy`: the servers and zones that are to hold a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FilePolicy {
    /// Policy of the file.
    pub policy: Policy,
    /// Further zones that are to hold it.
    #[serde(default)]
    pub preheats: Vec<PreheatRequest>,
}

/// Body of `PATCH /v1/files/{id}/policy`. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PolicyChange {
    /// Number of replicas: in each zone of the policy, or in total if it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub replicas: Option<u32>,
    /// Zones that are to hold the file; an empty list for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Zone>>,
    /// Further zones that are to hold it, in place of those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preheats: Option<Vec<PreheatRequest>>,
    /// Set to learn what the change would do, without making it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Answer of `PATCH /v1/files/{id}/policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyOutcome {
    /// Policy after the change.
    #[serde(flatten)]
    pub policy: FilePolicy,
    /// Replicas that are dropped, once all wanted ones are complete.
    pub dropped: Vec<ReplicaInfo>,
    /// Servers that are to hold the file from now on.
    pub added: Vec<ServerId>,
    /// Number of wanted replicas for which there is no server.
    pub short: u32,
}

/// Body of `POST /v1/files/{id}/preheat`: a further zone that is to hold the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PreheatRequest {
    /// Zone that is to hold the file.
    pub zone: Zone,
    /// Number of replicas in the zone; the info-server's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}
