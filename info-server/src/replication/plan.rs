//! The plan of one file: the servers that are assigned to it, and those that are released from it. Pure.
//!
//! Invariants: a server that holds the file or was assigned to it keeps it, whatever its rank is now, until it is lost or draining;
//! no server is released before every replica that is wanted is complete and verified on a server that has been live for
//! a lease. So servers that come and go move few files, and a server that flickers moves none.

use std::collections::{BTreeMap, BTreeSet};

use wire::{FileId, ServerId, Zone, catalogue::ZoneStatus};

use crate::{
    fleet::candidate::Candidate,
    replication::placement::{self, Rank},
};

/// Replicas on their way to one server at once, so that a large repair does not overload it.
const MAX_IN_FLIGHT: u32 = 64;

/// A number of replicas that is wanted, in one zone or anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaTarget {
    /// The zone; none for anywhere.
    pub zone: Option<Zone>,
    /// Number of replicas.
    pub replicas: u32,
}

/// A server's state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replica {
    /// Set if the server is to hold it.
    pub assigned: bool,
    /// Set if the server holds all of it, verified, and was not released from it.
    pub complete: bool,
    /// Set if the server was released from it and has not reported since that nothing is left: its chunks are about to go.
    pub leaving: bool,
    /// Set if the server verified any of it.
    pub begun: bool,
}

/// A file, its targets and its replicas.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The file.
    pub file: FileId,
    /// Bytes in it.
    pub size: u64,
    /// The server that must be among its holders while it is enrolled.
    pub through: Option<&'a ServerId>,
    /// The replicas that are wanted.
    pub targets: &'a [ReplicaTarget],
    /// The replicas that there are, by server.
    pub replicas: &'a BTreeMap<ServerId, Replica>,
}

/// The changes for one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Servers that are assigned to the file.
    pub assign: Vec<ServerId>,
    /// Servers that are released from the file.
    pub release: Vec<ServerId>,
    /// Number of replicas for which there is no server.
    pub short: u32,
    /// True if the replicas are those that are wanted, and nothing changes.
    pub converged: bool,
}

impl PlanInput<'_> {
    fn replica(&self, server: &Candidate) -> Replica {
        self.replicas.get(&server.id).copied().unwrap_or_default()
    }

    /// Returns true if a server's replica will last: not on a server that is lost or draining, nor on its way to one that is full. A replica
    /// that was begun has its room already.
    fn will_last(&self, server: &Candidate) -> bool {
        let replica = self.replica(server);
        let comes = !server.full && (replica.begun || !server.live || server.free >= self.size);
        replica.assigned && !server.lost && !server.draining && (replica.complete || comes)
    }

    fn can_take(&self, server: &Candidate) -> bool {
        let replica = self.replica(server);
        let fits = placement::fits(self.size, server.room) && server.in_flight < MAX_IN_FLIGHT;
        server.accepts_files() && !replica.assigned && !replica.leaving && (replica.complete || fits)
    }

    fn is_dependable(&self, server: &Candidate) -> bool {
        self.replica(server).complete && server.live && server.steady
    }

    fn rank(&self, server: &Candidate) -> (bool, Rank) {
        (self.through == Some(&server.id), placement::rank(self.file, &server.id, server.weight))
    }
}

/// Plans a file: compares the replicas that are wanted with those that there are.
pub fn plan(input: &PlanInput<'_>, servers: &[Candidate]) -> Plan {
    let Outline { assign, spare, short, dependable } = outline(input, servers);
    let release = if dependable { spare } else { Vec::new() };
    let converged = dependable && release.is_empty() && assign.is_empty();
    Plan { assign, release, short, converged }
}

/// The end that a plan leads to, whether or not it may be reached yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Servers that are to be assigned to the file.
    pub(crate) assign: Vec<ServerId>,
    /// Servers whose replicas are not wanted.
    pub(crate) spare: Vec<ServerId>,
    /// Number of replicas for which there is no server.
    pub(crate) short: u32,
    /// Set if every wanted replica is complete on a server that has been live for a lease.
    dependable: bool,
}

/// Compares the replicas that are wanted with those that there are.
pub(crate) fn outline(input: &PlanInput<'_>, servers: &[Candidate]) -> Outline {
    let mut plan = Plan::default();
    let mut kept: BTreeSet<&ServerId> = BTreeSet::new();
    let mut dependable = true;
    // Zones come first: a replica in a zone counts for those that may be held anywhere.
    let (anywhere, zones): (Vec<&ReplicaTarget>, Vec<&ReplicaTarget>) =
        input.targets.iter().partition(|target| target.zone.is_none());
    for target in zones.into_iter().chain(anywhere) {
        let count = usize::try_from(target.replicas).unwrap_or(usize::MAX);
        let pool: Vec<&Candidate> = servers.iter().filter(|server| server.is_in(target.zone.as_ref())).collect();
        let mut staying: Vec<&Candidate> = pool.iter().copied().filter(|server| input.will_last(server)).collect();
        staying.sort_by_cached_key(|server| {
            std::cmp::Reverse((kept.contains(&server.id), input.is_dependable(server), input.rank(server)))
        });
        staying.truncate(count);
        dependable &= staying.len() >= count && staying.iter().all(|server| input.is_dependable(server));
        kept.extend(staying.iter().map(|server| &server.id));

        let already = pool.iter().filter(|server| plan.assign.contains(&server.id)).count();
        let missing = count.saturating_sub(staying.len()).saturating_sub(already);
        let mut able: Vec<&Candidate> = pool
            .into_iter()
            .filter(|server| missing > 0 && input.can_take(server) && !plan.assign.contains(&server.id))
            .collect();
        able.sort_by_cached_key(|server| std::cmp::Reverse((input.replica(server).complete, input.rank(server))));
        able.truncate(missing);
        plan.short = plan.short.saturating_add(u32::try_from(missing.saturating_sub(able.len())).unwrap_or(u32::MAX));
        plan.assign.extend(able.into_iter().map(|server| server.id.clone()));
    }
    let is_spare =
        |(id, replica): &(&ServerId, &Replica)| (replica.assigned || replica.complete) && !kept.contains(*id);
    let spare = input.replicas.iter().filter(is_spare).map(|(id, _)| id.clone()).collect();
    Outline { assign: plan.assign, spare, short: plan.short, dependable }
}

/// Counts the replicas that are wanted and those that there are, by zone; the key is empty for replicas that may be held anywhere.
pub fn status(input: &PlanInput<'_>, servers: &[Candidate]) -> BTreeMap<String, ZoneStatus> {
    let zone = |target: &ReplicaTarget| {
        let pool = || servers.iter().filter(|server| server.is_in(target.zone.as_ref()));
        let count = |servers: usize| u32::try_from(servers).unwrap_or(u32::MAX);
        let complete = count(pool().filter(|server| server.live && input.replica(server).complete).count());
        let able = |server: &&Candidate| {
            let replica = input.replica(server);
            server.live && (replica.complete || replica.assigned || input.can_take(server))
        };
        let status = ZoneStatus { wanted: target.replicas, complete, servers: count(pool().filter(able).count()) };
        (target.zone.as_ref().map(ToString::to_string).unwrap_or_default(), status)
    };
    input.targets.iter().map(zone).collect()
}

#[cfg(test)]
mod tests;
