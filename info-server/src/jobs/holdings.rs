//! What a job's file is made of so far, and who holds what of it. Pure.

use std::collections::BTreeMap;

use wire::{Digest, Runs, ServerId, Zone, job::JobState};

use super::{job::Job, row::Shelf};

/// A job's file as far as it is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holdings {
    /// The digest of each chunk.
    pub(crate) digests: Vec<Option<Digest>>,
    /// The chunks that live workers hold.
    pub(crate) held: BTreeMap<ServerId, Runs>,
    /// The zones that may work on it, if it is held to some.
    pub(crate) zones: Option<Vec<Zone>>,
}

impl Job {
    /// What its file is made of; none when there is none, or when it stands in the catalogue for its own sake.
    pub(crate) fn holdings(&self) -> Option<Holdings> {
        let open = matches!(self.row.state, JobState::Running | JobState::Checking | JobState::Done);
        if !open || self.row.shelf >= Shelf::Published {
            return None;
        }
        let mut held: BTreeMap<ServerId, Runs> = BTreeMap::new();
        let mut digests = Vec::with_capacity(self.chunks.len());
        for (n, chunk) in (0_u32..).zip(&self.chunks) {
            digests.push(chunk.digest.filter(|_| !self.checks.is_disputed(n)));
            let holder = chunk.holder.filter(|seat| self.serves(*seat)).and_then(|seat| self.workers.get(seat));
            if let Some(worker) = holder.filter(|_| !self.checks.is_disputed(n)) {
                held.entry(worker.server.clone()).or_default().insert(n..n + 1);
            }
        }
        Some(Holdings { digests, held, zones: self.row.zones.clone() })
    }
}
