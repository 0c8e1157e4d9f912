//! The registry: the file servers that are enrolled, and which of them are live. Pure: every rule takes the time as an argument.
//!
//! Invariant: a server is live from an accepted heartbeat for one lease, or until it leaves; and for one lease
//! after a restart of the info-server if it had not left before. Of two processes with one identity only the
//! first is accepted, until it is known to be gone; one that was replaced because it seemed gone does not come back while
//! its successor lives, or the two would take turns for ever.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use anyhow::ensure;
use jiff::Timestamp;
use wire::{
    Digest, ServerId, Zone,
    event::Stream,
    id::{Epoch, InstanceId},
    server::{Heartbeat, ServerInfo, StreamCursors},
};

use crate::fleet::{candidate::Candidate, server::EnrolledServer};

/// Time for which a server counts as live after a heartbeat.
pub const SERVER_LEASE: Duration = Duration::from_secs(10);

/// Refuses to call a server lost before its lease has ended.
///
/// # Errors
/// The shortest time that is allowed.
pub fn check_repair_after(repair_after: Duration) -> anyhow::Result<()> {
    ensure!(
        repair_after >= SERVER_LEASE,
        "--repair-after must be at least {} seconds, the lease of a file server",
        SERVER_LEASE.as_secs()
    );
    Ok(())
}

/// All enrolled servers.
#[derive(Debug, Default)]
pub struct Registry {
    servers: BTreeMap<ServerId, Entry>,
}

#[derive(Debug)]
struct Entry {
    enrolled: EnrolledServer,
    lease_until: Option<Instant>,
    /// Time since which clients may be sent there, if they may.
    since: Instant,
    /// Time since which they may not, if that is for another reason than the end of its lease.
    gone: Option<Instant>,
    load: u32,
    /// Its positions in its streams, by its last heartbeat.
    seen: Option<StreamCursors>,
    /// Processes that were replaced while they seemed gone.
    replaced: VecDeque<InstanceId>,
}

/// Replaced processes that are remembered of one identity.
const MAX_REPLACED_INSTANCES: usize = 8;

/// The credential of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The join secret, which the operator gives to new servers.
    Join,
    /// A server's own token, as its hash.
    Own(Digest),
}

/// The rules' answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The same process as before, at the same address.
    Renew,
    /// A new server, process or address: it must be checked before clients are sent there.
    Check,
    /// Another process of this identity is live; it counts as gone only if it no longer answers at its address.
    Contest {
        /// The process that was there first.
        holder: InstanceId,
    },
    /// Another process of this identity is live, and cannot be asked whether it is gone: it keeps its place until its
    /// lease ends.
    Second,
    /// Secret that is neither the join secret nor this server's token.
    Unknown,
    /// The join secret, but the id belongs to a server with another token, or no token was named.
    Taken,
}

impl Registry {
    /// Restores the registry after a restart: servers that were present have one lease to come back.
    pub fn restore(rows: Vec<EnrolledServer>, now: Instant) -> Self {
        let entry = |enrolled: EnrolledServer| {
            let lease_until = enrolled.present.then(|| now + SERVER_LEASE);
            let gone = (!enrolled.present || !enrolled.reachable).then_some(now);
            let replaced = VecDeque::new();
            let entry = Entry { enrolled, lease_until, since: now, gone, load: 0, seen: None, replaced };
            (entry.enrolled.id.clone(), entry)
        };
        Self { servers: rows.into_iter().map(entry).collect() }
    }

    /// Applies the rules to a heartbeat; changes nothing.
    pub fn admit(&self, id: &ServerId, heartbeat: &Heartbeat, credential: Credential, now: Instant) -> Admission {
        let Some(entry) = self.servers.get(id) else {
            return match (credential, heartbeat.secret_sha256) {
                (Credential::Join, Some(_)) => Admission::Check,
                (Credential::Join, None) => Admission::Taken,
                (Credential::Own(_), _) => Admission::Unknown,
            };
        };
        let known = entry.enrolled.secret_sha256;
        match credential {
            Credential::Own(hash) if hash != known => return Admission::Unknown,
            Credential::Join if heartbeat.secret_sha256 != Some(known) => return Admission::Taken,
            Credential::Own(_) | Credential::Join => {}
        }
        let same_process = entry.enrolled.instance == heartbeat.instance;
        if !same_process && entry.is_live(now) {
            // A server that cannot be reached proves nothing by not answering; its heartbeats prove that it lives.
            let undecidable = !entry.enrolled.reachable || entry.replaced.contains(&heartbeat.instance);
            let holder = entry.enrolled.instance;
            return if undecidable { Admission::Second } else { Admission::Contest { holder } };
        }
        let same_place = entry.enrolled.url == heartbeat.url && entry.enrolled.zone == heartbeat.zone;
        if same_process && same_place && entry.enrolled.reachable && entry.enrolled.present {
            Admission::Renew
        } else {
            Admission::Check
        }
    }

    /// Renews a lease; only after [`Admission::Renew`].
    pub fn renew(&mut self, id: &ServerId, heartbeat: &Heartbeat, now: Instant, wall: Timestamp) {
        if let Some(entry) = self.servers.get_mut(id) {
            if !entry.is_live(now) {
                entry.since = now;
            }
            entry.enrolled.weight = heartbeat.weight;
            entry.lease_until = Some(now + SERVER_LEASE);
            entry.enrolled.last_seen = wall;
            entry.enrolled.free_bytes = heartbeat.free_bytes;
            entry.load = heartbeat.load;
            entry.seen.clone_from(&heartbeat.seen);
        }
    }

    /// Returns the row to store for a server that was checked; `None` when it must name its token first.
    pub fn registration(
        &self,
        id: &ServerId,
        heartbeat: &Heartbeat,
        reachable: bool,
        wall: Timestamp,
    ) -> Option<EnrolledServer> {
        let known = self.servers.get(id).map(|entry| entry.enrolled.secret_sha256);
        Some(EnrolledServer {
            id: id.clone(),
            zone: heartbeat.zone.clone(),
            url: heartbeat.url.clone(),
            secret_sha256: known.or(heartbeat.secret_sha256)?,
            instance: heartbeat.instance,
            present: true,
            reachable,
            free_bytes: heartbeat.free_bytes,
            last_seen: wall,
            weight: heartbeat.weight,
            draining: self.servers.get(id).is_some_and(|entry| entry.enrolled.draining),
        })
    }

    /// Returns true if a registration differs from the last one in its time alone.
    pub fn knows(&self, row: &EnrolledServer) -> bool {
        self.servers.get(&row.id).is_some_and(|entry| {
            let known = &entry.enrolled;
            (known.instance, known.present, known.reachable) == (row.instance, row.present, row.reachable)
                && (&known.url, &known.zone) == (&row.url, &row.zone)
        })
    }

    /// Enters a registration that was stored.
    pub fn register(&mut self, enrolled: EnrolledServer, heartbeat: &Heartbeat, now: Instant) {
        let before = self.servers.remove(&enrolled.id);
        let since = before.as_ref().filter(|entry| entry.serves(now)).map_or(now, |entry| entry.since);
        let gone_before = before.as_ref().and_then(|entry| entry.gone_since(now));
        let gone = (!enrolled.reachable).then(|| gone_before.unwrap_or(now));
        let mut replaced = VecDeque::new();
        if let Some(before) = before {
            let other = before.enrolled.instance != enrolled.instance && before.is_live(now);
            replaced = before.replaced;
            replaced.extend(other.then_some(before.enrolled.instance));
            replaced.retain(|instance| *instance != enrolled.instance);
            while replaced.len() > MAX_REPLACED_INSTANCES {
                replaced.pop_front();
            }
        }
        let (load, seen) = (heartbeat.load, heartbeat.seen.clone());
        let entry = Entry { enrolled, lease_until: Some(now + SERVER_LEASE), since, gone, load, seen, replaced };
        self.servers.insert(entry.enrolled.id.clone(), entry);
    }

    /// Returns the row to store before a server leaves, unless it has left already.
    pub fn leaving(&self, id: &ServerId) -> Option<EnrolledServer> {
        let entry = self.servers.get(id)?;
        let present = entry.enrolled.present || entry.lease_until.is_some();
        present.then(|| EnrolledServer { present: false, ..entry.enrolled.clone() })
    }

    /// Ends a server's lease at once.
    pub fn leave(&mut self, id: &ServerId, now: Instant) {
        if let Some(entry) = self.servers.get_mut(id) {
            entry.gone = entry.gone_since(now).or(Some(now));
            entry.lease_until = None;
            entry.enrolled.present = false;
        }
    }

    /// Returns the number up to which every server that ever enrolled has taken in the stream for all servers, by its own report. `None`
    /// while one of them has not reported in this epoch: it may be away, and hold what was deleted since.
    pub fn all_have_seen(&self, epoch: Epoch) -> Option<u64> {
        let seen = |entry: &Entry| {
            let seen = entry.seen.as_ref().filter(|seen| seen.epoch == epoch)?;
            seen.streams.get(&Stream::All).copied()
        };
        self.servers.values().map(seen).try_fold(u64::MAX, |least, seen| Some(least.min(seen?)))
    }

    /// Returns the server that a token belongs to.
    pub fn by_token(&self, hash: Digest) -> Option<&EnrolledServer> {
        // A scan, but over a short list, and only file servers cause it: no other caller has a hash that is in it.
        self.servers.values().map(|entry| &entry.enrolled).find(|enrolled| enrolled.secret_sha256 == hash)
    }

    /// Returns a server as it was last seen, and for how long clients may have been sent there; none if they may not.
    pub fn look(&self, id: &ServerId, now: Instant) -> Option<(ServerInfo, Option<Duration>)> {
        let live_for = |entry: &Entry| entry.serves(now).then(|| now.saturating_duration_since(entry.since));
        self.servers.get(id).map(|entry| (entry.info(), live_for(entry)))
    }

    /// Returns true if clients may be sent to a server.
    pub fn serves(&self, id: &ServerId, now: Instant) -> bool {
        self.servers.get(id).is_some_and(|entry| entry.serves(now))
    }

    /// Returns all servers as placement sees them; those that are away for `repair_after` are lost.
    pub fn candidates(&self, repair_after: Duration, now: Instant) -> Vec<Candidate> {
        self.servers.values().map(|entry| entry.candidate(repair_after, now)).collect()
    }

    /// Begins or ends the draining of a server, once that is stored.
    pub fn set_draining(&mut self, id: &ServerId, draining: bool) {
        if let Some(entry) = self.servers.get_mut(id) {
            entry.enrolled.draining = draining;
        }
    }

    /// Returns every server that ever enrolled.
    pub fn ids(&self) -> Vec<ServerId> {
        self.servers.keys().cloned().collect()
    }

    /// Returns a server, live or not.
    pub fn get(&self, id: &ServerId) -> Option<&EnrolledServer> {
        self.servers.get(id).map(|entry| &entry.enrolled)
    }

    /// Returns the zones of some servers, live or not.
    pub fn zones_of<'a>(&self, ids: impl IntoIterator<Item = &'a ServerId>) -> BTreeSet<Zone> {
        ids.into_iter().filter_map(|id| self.get(id)).map(|server| server.zone.clone()).collect()
    }

    /// Returns the zones of all enrolled servers, live or not.
    pub fn zones(&self) -> BTreeSet<&Zone> {
        self.servers.values().map(|entry| &entry.enrolled.zone).collect()
    }

    /// Returns the servers that clients may be sent to, as they enrolled.
    pub fn serving(&self, now: Instant) -> impl Iterator<Item = &EnrolledServer> {
        self.servers.values().filter(move |entry| entry.serves(now)).map(|entry| &entry.enrolled)
    }

    /// Returns the servers that clients may be sent to, by id.
    pub fn live(&self, now: Instant) -> impl Iterator<Item = ServerInfo> {
        self.servers.values().filter(move |entry| entry.serves(now)).map(Entry::info)
    }
}

impl Entry {
    fn is_live(&self, now: Instant) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }

    fn serves(&self, now: Instant) -> bool {
        self.enrolled.reachable && self.is_live(now)
    }

    fn gone_since(&self, now: Instant) -> Option<Instant> {
        if self.serves(now) { None } else { self.gone.or(self.lease_until) }
    }

    fn candidate(&self, repair_after: Duration, now: Instant) -> Candidate {
        let live = self.serves(now);
        let gone = self.gone_since(now).map(|since| now.saturating_duration_since(since));
        Candidate {
            id: self.enrolled.id.clone(),
            zone: self.enrolled.zone.clone(),
            weight: self.enrolled.weight,
            draining: self.enrolled.draining,
            live,
            steady: live && now.saturating_duration_since(self.since) >= SERVER_LEASE,
            lost: gone.is_some_and(|gone| gone >= repair_after),
            full: live && self.enrolled.free_bytes == 0,
            free: self.enrolled.free_bytes,
            room: self.enrolled.free_bytes,
            in_flight: 0,
        }
    }

    fn info(&self) -> ServerInfo {
        ServerInfo {
            id: self.enrolled.id.clone(),
            zone: self.enrolled.zone.clone(),
            url: self.enrolled.url.clone(),
            load: self.load,
            free_bytes: self.enrolled.free_bytes,
            last_seen: self.enrolled.last_seen,
            weight: self.enrolled.weight,
            draining: self.enrolled.draining,
        }
    }
}

#[cfg(test)]
mod tests;
