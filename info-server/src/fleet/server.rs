//! An enrolled file server.

use jiff::Timestamp;
use url::Url;
use wire::{Digest, ServerId, Zone, id::InstanceId};

/// A file server, as of its last change.
#[derive(Debug, Clone)]
pub struct EnrolledServer {
    /// Its id.
    pub id: ServerId,
    /// Its zone.
    pub zone: Zone,
    /// Its base address.
    pub url: Url,
    /// SHA-256 of its token.
    pub secret_sha256: Digest,
    /// Instance of the process that registered last.
    pub instance: InstanceId,
    /// Unset once it left.
    pub present: bool,
    /// Set if it answered at its address.
    pub reachable: bool,
    /// Bytes that it can still store.
    pub free_bytes: u64,
    /// Time at which the row was stored.
    pub last_seen: Timestamp,
    /// Its share of a zone's files, in proportion to the weights of the others.
    pub weight: u32,
    /// Set while it is draining.
    pub draining: bool,
}
