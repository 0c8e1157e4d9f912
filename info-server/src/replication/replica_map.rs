//! The replica map of a file: the servers that hold chunks of it or are to hold them, and the sources that a requester is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use url::Url;
use wire::{
    ChunkLayout, ChunkSet, Digest, FileId, ServerId, Zone,
    catalogue::{DigestConflict, Location, MissingChunks, ReplicaInfo},
    server::ServerInfo,
};

use crate::{
    catalogue::file::Content,
    db::Database,
    error::Result,
    fleet::{address_check::endpoint, members::Fleet, registry::Registry},
    replication::{
        ingress::{self, IngressCandidate},
        missing_chunks::{self, KnownReplica},
        store::assignments::ReplicaRecord,
        zone_costs::ZoneCosts,
    },
};

/// The replicas of one file.
#[derive(Debug, Clone)]
pub struct ReplicaMap {
    file: FileId,
    root: Option<Digest>,
    servers: Vec<ServerReplica>,
    /// Zones whose servers may come to hold chunks, while a job makes the file.
    job_zones: Option<Vec<Zone>>,
}

/// A file that a job is making, as far as the job has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFile {
    /// Digest of each chunk; none for those that were not fetched yet.
    pub(crate) digests: Vec<Option<Digest>>,
    /// Chunks that live workers hold.
    pub(crate) held: BTreeMap<ServerId, ChunkSet>,
    /// Zones whose servers may work on the job; none for all of them.
    pub(crate) zones: Option<Vec<Zone>>,
}

/// A server and its replica.
#[derive(Debug, Clone)]
pub struct ServerReplica {
    /// The server's orders and its reports.
    pub record: ReplicaRecord,
    /// The server as it was last seen.
    pub server: ServerInfo,
    /// True while its lease runs.
    pub live: bool,
    /// Time since it came; zero while it is away.
    pub live_for: Duration,
}

impl ServerReplica {
    /// Joins a replica and its server, which is live if it has been for some time.
    fn new(record: ReplicaRecord, server: ServerInfo, live_for: Option<Duration>) -> Self {
        Self { record, server, live: live_for.is_some(), live_for: live_for.unwrap_or_default() }
    }
}

/// The party that wants the chunks.
#[derive(Debug, Clone, Copy)]
pub enum Requester<'a> {
    /// A user's client, in this zone if it is known.
    Person(Option<&'a Zone>),
    /// A file server.
    Server(&'a ServerId),
}

impl ReplicaMap {
    /// Loads the replicas of a file; `root` is that of its content, once it is committed.
    pub(crate) async fn load(db: &Database, fleet: &Fleet, file: FileId, root: Option<Digest>) -> Result<Self> {
        let records = db.replica_records(file).await?;
        let (registry, now) = (fleet.registry(), Instant::now());
        let on_server = |record: ReplicaRecord| {
            let (server, live_for) = registry.look(&record.server, now)?;
            Some(ServerReplica::new(record, server, live_for))
        };
        Ok(Self { file, root, servers: records.into_iter().filter_map(on_server).collect(), job_zones: None })
    }

    /// Adds the chunks of a file that a job is making: they are where the job has them.
    pub(crate) fn add_job_file(&mut self, job_file: JobFile, registry: &Registry, now: Instant) {
        let digests: Option<Vec<Digest>> = job_file.digests.into_iter().collect();
        self.root = digests.map(|digests| Digest::root_of(&digests));
        for (id, runs) in job_file.held {
            match self.servers.iter_mut().find(|replica| replica.server.id == id) {
                Some(replica) => runs.iter().for_each(|run| replica.record.runs.insert(run)),
                None => {
                    let record = ReplicaRecord {
                        server: id.clone(),
                        wanted: None,
                        runs,
                        root: None,
                        sha256: None,
                        reported: true,
                        dropped: ChunkSet::new(),
                    };
                    let server = registry.look(&id, now);
                    self.servers.extend(server.map(|(server, live_for)| ServerReplica::new(record, server, live_for)));
                }
            }
        }
        self.job_zones = Some(job_file.zones.unwrap_or_else(|| registry.zones().into_iter().cloned().collect()));
    }

    /// Returns true if there are chunks to be fetched, or will be.
    pub const fn is_offered(&self) -> bool {
        self.root.is_some() || self.job_zones.is_some()
    }

    /// Returns the holders of the content that computed another SHA-256 of the whole than this one, which its publisher claims.
    pub fn digest_conflicts(&self, claimed: Digest) -> impl Iterator<Item = DigestConflict> + '_ {
        self.servers
            .iter()
            .filter(|replica| replica.record.root.is_some() && replica.record.root == self.root)
            .filter_map(move |ServerReplica { record, .. }| {
                let sha256 = record.sha256.filter(|computed| *computed != claimed)?;
                Some(DigestConflict { server: record.server.clone(), sha256 })
            })
    }

    /// Returns true if a holder of the content computed another SHA-256 of the whole than its publisher claims.
    pub fn is_disputed(&self, content: Option<Content>) -> bool {
        content.is_some_and(|content| self.digest_conflicts(content.sha256).next().is_some())
    }

    /// Returns the root of its content, if all of it is known.
    pub const fn root(&self) -> Option<Digest> {
        self.root
    }

    /// Returns the file's id.
    pub const fn file(&self) -> FileId {
        self.file
    }

    /// Returns every server that holds something of the file or was assigned to it.
    pub fn servers(&self) -> &[ServerReplica] {
        &self.servers
    }

    /// Returns one replica as the API shows it.
    pub fn describe(&self, replica: &ServerReplica) -> ReplicaInfo {
        ReplicaInfo {
            server: replica.server.id.clone(),
            zone: replica.server.zone.clone(),
            live: replica.live,
            assigned: replica.record.assigned(),
            draining: replica.server.draining,
            verified: self.verified(&replica.record),
        }
    }

    /// Returns the zones whose servers must receive the file's tokens, whether or not they are live now.
    pub fn zones(&self) -> Vec<Zone> {
        let mut zones: BTreeSet<&Zone> = self.servers.iter().map(|held| &held.server.zone).collect();
        zones.extend(self.job_zones.iter().flatten());
        zones.into_iter().cloned().collect()
    }

    /// Counts complete, verified replicas on live servers.
    pub fn complete(&self) -> usize {
        self.servers.iter().filter(|held| held.live && self.is_complete(&held.record)).count()
    }

    /// Returns true if a server is to hold the file or holds something of it.
    pub fn concerns(&self, id: &ServerId) -> bool {
        self.servers
            .iter()
            .any(|held| held.server.id == *id && (held.record.assigned() || self.is_useful(&held.record)))
    }

    /// Returns true if a server is the one that fetches the file into its zone.
    pub fn is_ingress(&self, id: &ServerId) -> bool {
        let Some(own) = self.servers.iter().find(|held| held.server.id == *id) else { return false };
        let candidates: Vec<IngressCandidate<'_>> = self
            .servers
            .iter()
            .filter(|held| held.server.zone == own.server.zone)
            .map(|held| self.candidate(held))
            .collect();
        ingress::ingress(self.file, &candidates) == Some(id)
    }

    fn candidate<'a>(&self, held: &'a ServerReplica) -> IngressCandidate<'a> {
        let (server, live, live_for) = (&held.server.id, held.live, held.live_for);
        let accepts_files = held.server.free_bytes > 0;
        IngressCandidate {
            server,
            live,
            live_for,
            assigned: held.record.assigned(),
            complete: self.is_complete(&held.record),
            accepts_files,
        }
    }

    /// Returns true if all chunks are there, verified, on a server that was not released from them.
    pub fn is_complete(&self, record: &ReplicaRecord) -> bool {
        !record.released() && self.root.is_some() && record.root == self.root
    }

    /// Counts the chunks that a server verified; those of other content do not count.
    pub fn verified(&self, record: &ReplicaRecord) -> u32 {
        if record.root.is_some() && record.root != self.root { 0 } else { record.runs.len() }
    }

    /// Returns true if a replica has chunks of the file's content, or may have.
    fn is_useful(&self, record: &ReplicaRecord) -> bool {
        let sound = record.root.is_none() || record.root == self.root;
        sound && !record.released() && (record.root.is_some() || !record.runs.is_empty())
    }

    /// Returns the chunks of a published file that no server can send now; none if there are none.
    pub fn missing(&self, layout: ChunkLayout) -> Option<MissingChunks> {
        // Nearly always.
        if self.complete() > 0 {
            return None;
        }
        let root = self.root.filter(|_| self.job_zones.is_none())?;
        let replicas = self.servers.iter().map(|held| KnownReplica { record: &held.record, live: held.live });
        missing_chunks::missing(layout, root, replicas)
    }

    /// Returns the sources of a file, best first: near ones, then idle ones.
    ///
    /// # Errors
    /// When the address of a server makes no URL.
    pub fn locations(&self, requester: Requester<'_>, costs: &ZoneCosts) -> Result<Vec<Location>> {
        if !self.is_offered() {
            return Ok(Vec::new());
        }
        let zone = match requester {
            Requester::Person(zone) => zone,
            Requester::Server(id) => {
                self.servers.iter().find(|held| held.server.id == *id).map(|held| &held.server.zone)
            }
        };
        let cost = |server: &ServerInfo| zone.map_or(0, |zone| costs.between(zone, &server.zone));
        let mut sources: Vec<&ServerReplica> =
            self.servers.iter().filter(|held| held.live && self.may_send(requester, zone, held)).collect();
        sources.sort_by_key(|held| (cost(&held.server), held.server.load, &held.server.id));
        sources.into_iter().map(|held| self.location(held, cost(&held.server))).collect()
    }

    /// Returns true if a server is a source for the requester. File servers take from their own zone, also what is only on its way
    /// there.
    fn may_send(&self, requester: Requester<'_>, zone: Option<&Zone>, held: &ServerReplica) -> bool {
        match requester {
            Requester::Person(_) => self.is_useful(&held.record),
            Requester::Server(id) if held.server.id == *id => false,
            Requester::Server(_) if zone == Some(&held.server.zone) => {
                let sound = held.record.root.is_none() || held.record.root == self.root;
                self.is_useful(&held.record) || (sound && held.record.assigned())
            }
            Requester::Server(id) => self.is_useful(&held.record) && self.is_ingress(id),
        }
    }

    fn location(&self, held: &ServerReplica, cost: u8) -> Result<Location> {
        let ServerReplica { record, server, .. } = held;
        let url: Url = endpoint(&server.url, &format!("v1/files/{}/content", self.file)).parse()?;
        Ok(Location { server: server.id.clone(), zone: server.zone.clone(), url, runs: record.runs.clone(), cost })
    }
}

#[cfg(test)]
mod tests;
