//! How a file stands: who holds what of it and who is to, and to whom somebody who wants it is sent.

use std::{collections::BTreeSet, time::Instant};

use url::Url;
use wire::{
    Digest, FileId, ServerId, Zone,
    catalog::{FileState, Location},
    server::ServerInfo,
};

use super::{
    ingress::{self, Member},
    links::Costs,
};
use crate::{
    app::State,
    error::Result,
    probe::address,
    store::{assignments::Part, files::File},
};

/// How a file stands.
#[derive(Debug, Clone)]
pub struct Standing {
    file: FileId,
    root: Option<Digest>,
    servers: Vec<Held>,
    /// What a job says of its file while it makes it.
    making: Option<Making>,
}

/// A file that a job makes.
#[derive(Debug, Clone)]
struct Making {
    /// The zones whose servers may come to hold chunks.
    zones: Vec<Zone>,
}

/// One server's part, and the server.
#[derive(Debug, Clone)]
pub struct Held {
    /// What it was told and what it reported.
    pub part: Part,
    /// The server as it was last seen.
    pub server: ServerInfo,
    /// Whether its lease runs.
    pub live: bool,
}

/// Who wants the chunks.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A person or a program of theirs, in this zone if it is known.
    Person(Option<&'a Zone>),
    /// A file server.
    Server(&'a ServerId),
}

impl Standing {
    /// Reads how a file stands now; `root` is what it is made of, once it is committed.
    pub(crate) async fn of(state: &State, file: FileId, root: Option<Digest>) -> Result<Self> {
        let parts = state.store.parts(file).await?;
        let (registry, now) = (state.registry(), Instant::now());
        let held = |part: Part| {
            let (server, live) = registry.look(&part.server, now)?;
            Some(Held { part, server, live })
        };
        Ok(Self { file, root, servers: parts.into_iter().filter_map(held).collect(), making: None })
    }

    /// Reads how an entry stands now, also one that a job is making: its chunks are where the job knows them to be.
    pub(crate) async fn of_entry(state: &State, file: &File) -> Result<Self> {
        let mut standing = Self::of(state, file.id, file.content.map(|content| content.root)).await?;
        let Some(job) = file.job.filter(|_| file.state == FileState::Uploading) else { return Ok(standing) };
        let Some(holdings) = state.jobs.holdings(job).await? else { return Ok(standing) };
        let digests: Option<Vec<Digest>> = holdings.digests.into_iter().collect();
        standing.root = digests.map(|digests| Digest::root_of(&digests));
        let (registry, now) = (state.registry(), Instant::now());
        for (id, runs) in holdings.held {
            match standing.servers.iter_mut().find(|held| held.server.id == id) {
                Some(held) => runs.iter().for_each(|run| held.part.runs.insert(run)),
                None => {
                    let part = Part { server: id.clone(), wanted: None, runs, root: None };
                    let server = registry.look(&id, now);
                    standing.servers.extend(server.map(|(server, live)| Held { part, server, live }));
                }
            }
        }
        let zones = holdings.zones.unwrap_or_else(|| registry.zones().into_iter().cloned().collect());
        standing.making = Some(Making { zones });
        Ok(standing)
    }

    /// Whether there are chunks to be had, or will be.
    pub const fn is_offered(&self) -> bool {
        self.root.is_some() || self.making.is_some()
    }

    /// What it is made of, if all of it is known.
    pub const fn root(&self) -> Option<Digest> {
        self.root
    }

    /// The file.
    pub const fn file(&self) -> FileId {
        self.file
    }

    /// Everybody who has to do with the file.
    pub fn servers(&self) -> &[Held] {
        &self.servers
    }

    /// The zones whose servers must hear of the file's tokens, whether or not they live now.
    pub fn zones(&self) -> Vec<Zone> {
        let mut zones: BTreeSet<&Zone> = self.servers.iter().map(|held| &held.server.zone).collect();
        zones.extend(self.making.iter().flat_map(|making| &making.zones));
        zones.into_iter().cloned().collect()
    }

    /// Complete, verified replicas on live servers.
    pub fn complete(&self) -> usize {
        self.servers.iter().filter(|held| held.live && self.is_complete(&held.part)).count()
    }

    /// Whether a server is to hold the file or holds something of it.
    pub fn concerns(&self, id: &ServerId) -> bool {
        self.servers.iter().any(|held| held.server.id == *id && (held.part.assigned() || self.is_useful(&held.part)))
    }

    /// Whether a server is the one that fetches the file into its zone.
    pub fn is_ingress(&self, id: &ServerId) -> bool {
        let Some(own) = self.servers.iter().find(|held| held.server.id == *id) else { return false };
        let members: Vec<Member<'_>> = self
            .servers
            .iter()
            .filter(|held| held.server.zone == own.server.zone)
            .map(|held| self.member(held))
            .collect();
        ingress::ingress(self.file, &members) == Some(id)
    }

    fn member<'a>(&self, held: &'a Held) -> Member<'a> {
        let (server, live) = (&held.server.id, held.live);
        let takes = held.server.free_bytes > 0;
        Member { server, live, assigned: held.part.assigned(), complete: self.is_complete(&held.part), takes }
    }

    /// Whether all chunks are there, verified, on a server that was not told to drop them.
    pub fn is_complete(&self, part: &Part) -> bool {
        !part.released() && self.root.is_some() && part.root == self.root
    }

    /// Chunks that a server verified; those of other content do not count.
    pub fn verified(&self, part: &Part) -> u32 {
        if part.root.is_some() && part.root != self.root { 0 } else { part.runs.len() }
    }

    /// Whether a part has chunks worth asking for; other content than the file's is not.
    fn is_useful(&self, part: &Part) -> bool {
        let sound = part.root.is_none() || part.root == self.root;
        sound && !part.released() && (part.root.is_some() || !part.runs.is_empty())
    }

    /// The sources of a committed file, best first: near ones, then idle ones.
    ///
    /// # Errors
    /// When the address of a server makes no URL.
    pub fn locations(&self, asker: Asker<'_>, costs: &Costs) -> Result<Vec<Location>> {
        if !self.is_offered() {
            return Ok(Vec::new());
        }
        let zone = match asker {
            Asker::Person(zone) => zone,
            Asker::Server(id) => self.servers.iter().find(|held| held.server.id == *id).map(|held| &held.server.zone),
        };
        let cost = |server: &ServerInfo| zone.map_or(0, |zone| costs.between(zone, &server.zone));
        let mut sources: Vec<&Held> =
            self.servers.iter().filter(|held| held.live && self.may_send(asker, zone, held)).collect();
        sources.sort_by_key(|held| (cost(&held.server), held.server.load, &held.server.id));
        sources.into_iter().map(|held| self.location(held, cost(&held.server))).collect()
    }

    /// Whether the asker is sent to a server. File servers take from their own zone, also what is only on its way there.
    fn may_send(&self, asker: Asker<'_>, zone: Option<&Zone>, held: &Held) -> bool {
        match asker {
            Asker::Person(_) => self.is_useful(&held.part),
            Asker::Server(id) if held.server.id == *id => false,
            Asker::Server(_) if zone == Some(&held.server.zone) => {
                let sound = held.part.root.is_none() || held.part.root == self.root;
                self.is_useful(&held.part) || (sound && held.part.assigned())
            }
            Asker::Server(id) => self.is_useful(&held.part) && self.is_ingress(id),
        }
    }

    fn location(&self, held: &Held, cost: u8) -> Result<Location> {
        let Held { part, server, .. } = held;
        let url: Url = address(&server.url, &format!("v1/files/{}/content", self.file)).parse()?;
        Ok(Location { server: server.id.clone(), zone: server.zone.clone(), url, runs: part.runs.clone(), cost })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wire::Runs;

    use super::*;

    const CHUNKS: u32 = 4;

    fn root() -> Digest {
        Digest::of(b"root")
    }

    /// `wanted`: whether it was told to hold the file; `held`: how many chunks it does.
    fn held(id: &str, zone: &str, wanted: Option<bool>, held: u32) -> Held {
        let server = ServerInfo {
            id: id.parse().unwrap(),
            zone: zone.parse().unwrap(),
            url: "http://127.0.0.1:9".parse().unwrap(),
            load: 0,
            free_bytes: 0,
            last_seen: Timestamp::UNIX_EPOCH,
            weight: 1,
            draining: false,
        };
        let part =
            Part { server: server.id.clone(), wanted, runs: Runs::from(0..held), root: (held == CHUNKS).then(root) };
        Held { part, server, live: true }
    }

    fn standing(servers: Vec<Held>) -> Standing {
        Standing { file: FileId::new(), root: Some(root()), servers, making: None }
    }

    fn sources(standing: &Standing, asker: Asker<'_>, costs: &[&str]) -> Vec<(String, u8)> {
        let costs = Costs::new(costs.iter().map(|cost| cost.parse().unwrap()));
        let locations = standing.locations(asker, &costs).unwrap();
        locations.into_iter().map(|location| (location.server.to_string(), location.cost)).collect()
    }

    fn names(sources: &[(String, u8)]) -> Vec<(&str, u8)> {
        sources.iter().map(|(name, cost)| (name.as_str(), *cost)).collect()
    }

    #[test]
    fn people_are_sent_to_near_servers_first_and_to_none_that_holds_nothing_or_drops_it() {
        let mut busy = held("us-1", "us", None, CHUNKS);
        busy.server.load = 7;
        let mut dead = held("eu-3", "eu", Some(true), CHUNKS);
        dead.live = false;
        let mut liar = held("eu-4", "eu", Some(true), CHUNKS);
        liar.part.root = Some(Digest::of(b"other"));
        let standing = standing(vec![
            held("ap-1", "ap", Some(true), CHUNKS),
            busy,
            held("us-2", "us", Some(true), 2),
            held("eu-1", "eu", Some(true), 0),
            held("eu-2", "eu", Some(false), CHUNKS),
            dead,
            liar,
        ]);
        let us = "us".parse().unwrap();
        let found = sources(&standing, Asker::Person(Some(&us)), &["us:ap=9"]);
        assert_eq!(names(&found), [("us-2", 0), ("us-1", 0), ("ap-1", 9)]);
        let eu = "eu".parse().unwrap();
        let found = sources(&standing, Asker::Person(Some(&eu)), &["ap:eu=3"]);
        assert_eq!(names(&found), [("us-2", 1), ("us-1", 1), ("ap-1", 3)]);
        assert_eq!(sources(&standing, Asker::Person(None), &[]).len(), 3);
        assert_eq!(standing.complete(), 2);
    }

    #[test]
    fn only_the_ingress_of_a_zone_is_sent_to_other_zones() {
        let ids = ["us-1", "us-2", "us-3"].map(|id| id.parse::<ServerId>().unwrap());
        let mut servers: Vec<Held> = ids.iter().map(|id| held(id.as_str(), "us", Some(true), 0)).collect();
        servers.push(held("eu-1", "eu", Some(true), CHUNKS));
        let mut standing = standing(servers);
        let abroad = |standing: &Standing, id: &ServerId| {
            sources(standing, Asker::Server(id), &[]).iter().any(|(name, _)| name == "eu-1")
        };
        let first: Vec<&ServerId> = ids.iter().filter(|id| abroad(&standing, id)).collect();
        assert_eq!(first.len(), 1);
        for id in &ids {
            let own: Vec<_> =
                sources(&standing, Asker::Server(id), &[]).into_iter().filter(|(_, cost)| *cost == 0).collect();
            assert_eq!(own.len(), 2, "its peers, though they hold nothing yet, and not itself");
        }
        // The next one follows when the first dies.
        let dies = first[0].clone();
        standing.servers.iter_mut().filter(|held| held.server.id == dies).for_each(|held| held.live = false);
        let second: Vec<&ServerId> = ids.iter().filter(|id| abroad(&standing, id)).collect();
        assert!(second.len() == 1 && *second[0] != dies);
        // Once the zone has it, nobody goes abroad.
        let has = second[0].clone();
        for held in standing.servers.iter_mut().filter(|held| held.server.id == has) {
            held.part.root = Some(root());
        }
        assert!(!ids.iter().any(|id| abroad(&standing, id)));
    }

    #[test]
    fn only_those_who_are_to_hold_a_file_or_do_may_ask_for_it() {
        let standing = standing(vec![
            held("a", "eu", Some(true), 0),
            held("b", "eu", None, 1),
            held("c", "eu", Some(false), CHUNKS),
            held("d", "eu", None, 0),
        ]);
        let asks = |id: &str| standing.concerns(&id.parse().unwrap());
        assert_eq!(["a", "b", "c", "d", "e"].map(asks), [true, true, false, false, false]);
    }
}
