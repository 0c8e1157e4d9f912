//! A file server as placement and replication see it.

use wire::{ServerId, Zone};

/// A server that may hold files.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id.
    pub id: ServerId,
    /// Its zone.
    pub zone: Zone,
    /// Its share of a zone's files, in proportion to the weights of the others.
    pub weight: u32,
    /// Set while it is draining.
    pub draining: bool,
    /// True while clients may be sent there.
    pub live: bool,
    /// Set once it has been live for a lease: long enough to be relied on.
    pub steady: bool,
    /// Set once it was away for so long that its replicas are made again elsewhere.
    pub lost: bool,
    /// True while it takes nothing in for want of room.
    pub full: bool,
    /// Bytes that it can still store.
    pub free: u64,
    /// Part of `free` that no replica on its way will take.
    pub room: u64,
    /// Number of replicas on their way there.
    pub in_flight: u32,
}

impl Candidate {
    /// Returns true if it is in `zone`; without one, always.
    pub(crate) fn is_in(&self, zone: Option<&Zone>) -> bool {
        zone.is_none_or(|zone| *zone == self.zone)
    }

    /// Returns true if it takes files in general.
    pub const fn accepts_files(&self) -> bool {
        self.live && !self.draining && self.weight > 0
    }
}
