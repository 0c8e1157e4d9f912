//! Who is live. Pure: every rule takes the time as an argument.
//!
//! Invariant: a server is live from an accepted heartbeat for one lease, or until it says goodbye; and for one lease
//! after a restart of the info-server if it had not said goodbye before. Of two processes with one identity only the
//! first is accepted, until it is known to be gone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use wire::{
    Digest, ServerId,
    id::InstanceId,
    server::{Heartbeat, ServerInfo},
};

use crate::store::servers::Enrolled;

/// How long a server counts as live after a heartbeat.
pub const LEASE: Duration = Duration::from_secs(10);

/// Every enrolled server.
#[derive(Debug, Default)]
pub struct Registry {
    servers: BTreeMap<ServerId, Entry>,
}

#[derive(Debug)]
struct Entry {
    enrolled: Enrolled,
    lease_until: Option<Instant>,
    load: u32,
}

/// With what right a heartbeat comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The join secret: anyone whom the operator lets in.
    Join,
    /// A server's own token, as its hash.
    Own(Digest),
}

/// What to do with a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The same process as before, at the same address.
    Renew,
    /// A new server, a new process, or a new address: find out who answers there before sending anyone.
    Check,
    /// Another process of this identity is live; it counts as gone only if it no longer answers at its address.
    Contest {
        /// The one that was there first.
        holder: InstanceId,
    },
    /// Neither the join secret nor this server's token.
    Unknown,
    /// The join secret, but the id belongs to a server with another token, or no token was named.
    Taken,
}

impl Registry {
    /// After a restart: whoever was present is given one lease to come back.
    pub fn restore(rows: Vec<Enrolled>, now: Instant) -> Self {
        let entry = |enrolled: Enrolled| {
            let lease_until = enrolled.present.then(|| now + LEASE);
            (enrolled.id.clone(), Entry { enrolled, lease_until, load: 0 })
        };
        Self { servers: rows.into_iter().map(entry).collect() }
    }

    /// Judges a heartbeat; changes nothing.
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
            return Admission::Contest { holder: entry.enrolled.instance };
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
            entry.lease_until = Some(now + LEASE);
            entry.enrolled.last_seen = wall;
            entry.enrolled.free_bytes = heartbeat.free_bytes;
            entry.load = heartbeat.load;
        }
    }

    /// What to store for a server that was checked; `None` when it must name its token first.
    pub fn registration(
        &self,
        id: &ServerId,
        heartbeat: &Heartbeat,
        reachable: bool,
        wall: Timestamp,
    ) -> Option<Enrolled> {
        let known = self.servers.get(id).map(|entry| entry.enrolled.secret_sha256);
        Some(Enrolled {
            id: id.clone(),
            zone: heartbeat.zone.clone(),
            url: heartbeat.url.clone(),
            secret_sha256: known.or(heartbeat.secret_sha256)?,
            instance: heartbeat.instance,
            present: true,
            reachable,
            free_bytes: heartbeat.free_bytes,
            last_seen: wall,
        })
    }

    /// Whether a registration says nothing that is not known already, but for the time.
    pub fn knows(&self, row: &Enrolled) -> bool {
        self.servers.get(&row.id).is_some_and(|entry| {
            let known = &entry.enrolled;
            (known.instance, known.present, known.reachable) == (row.instance, row.present, row.reachable)
                && (&known.url, &known.zone) == (&row.url, &row.zone)
        })
    }

    /// Takes in a registration that was stored.
    pub fn register(&mut self, enrolled: Enrolled, load: u32, now: Instant) {
        let entry = Entry { enrolled, lease_until: Some(now + LEASE), load };
        self.servers.insert(entry.enrolled.id.clone(), entry);
    }

    /// Ends a server's lease at once; what to store, if anything changed.
    pub fn leave(&mut self, id: &ServerId) -> Option<Enrolled> {
        let entry = self.servers.get_mut(id)?;
        entry.lease_until = None;
        let was_present = std::mem::replace(&mut entry.enrolled.present, false);
        was_present.then(|| entry.enrolled.clone())
    }

    /// The server that this token belongs to.
    pub fn by_token(&self, hash: Digest) -> Option<&Enrolled> {
        // A scan, but over a short list that only file servers make us walk; hashes are public to nobody else.
        self.servers.values().map(|entry| &entry.enrolled).find(|enrolled| enrolled.secret_sha256 == hash)
    }

    /// A server, live or not.
    pub fn get(&self, id: &ServerId) -> Option<&Enrolled> {
        self.servers.get(id).map(|entry| &entry.enrolled)
    }

    /// The servers that clients may be sent to, by id.
    pub fn live(&self, now: Instant) -> impl Iterator<Item = ServerInfo> {
        self.servers.values().filter(move |entry| entry.enrolled.reachable && entry.is_live(now)).map(Entry::info)
    }
}

impl Entry {
    fn is_live(&self, now: Instant) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }

    fn info(&self) -> ServerInfo {
        ServerInfo {
            id: self.enrolled.id.clone(),
            zone: self.enrolled.zone.clone(),
            url: self.enrolled.url.clone(),
            load: self.load,
            free_bytes: self.enrolled.free_bytes,
            last_seen: self.enrolled.last_seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(secret: Option<Digest>) -> Heartbeat {
        Heartbeat {
            zone: "eu".parse().unwrap(),
            url: "http://127.0.0.1:9".parse().unwrap(),
            instance: InstanceId::new(),
            secret_sha256: secret,
            load: 1,
            free_bytes: 2,
        }
    }

    fn registered() -> (Registry, ServerId, Heartbeat, Digest, Instant) {
        let (id, secret, now) = ("fs-1".parse().unwrap(), Digest::of(b"secret"), Instant::now());
        let beat = heartbeat(Some(secret));
        let mut registry = Registry::default();
        assert_eq!(registry.admit(&id, &beat, Credential::Join, now), Admission::Check);
        let row = registry.registration(&id, &beat, true, Timestamp::UNIX_EPOCH).unwrap();
        registry.register(row, 0, now);
        (registry, id, beat, secret, now)
    }

    #[test]
    fn a_server_is_live_for_one_lease_after_each_heartbeat() {
        let (mut registry, id, beat, secret, now) = registered();
        assert_eq!(registry.live(now + LEASE / 2).count(), 1);
        assert_eq!(registry.live(now + LEASE).count(), 0);
        assert_eq!(registry.admit(&id, &beat, Credential::Own(secret), now + LEASE / 2), Admission::Renew);
        registry.renew(&id, &beat, now + LEASE / 2, Timestamp::UNIX_EPOCH);
        assert_eq!(registry.live(now + LEASE).count(), 1);
    }

    #[test]
    fn a_server_that_says_goodbye_is_gone_at_once_and_stays_so_after_a_restart() {
        let (mut registry, id, beat, secret, now) = registered();
        let row = registry.leave(&id).unwrap();
        assert_eq!(registry.live(now).count(), 0);
        assert!(registry.leave(&id).is_none());
        assert_eq!(registry.admit(&id, &beat, Credential::Own(secret), now), Admission::Check);
        assert_eq!(Registry::restore(vec![row], now).live(now).count(), 0);
    }

    #[test]
    fn after_a_restart_nobody_is_dead_before_one_lease() {
        let (registry, id, ..) = registered();
        let later = Instant::now() + LEASE * 100;
        let restored = Registry::restore(vec![registry.get(&id).unwrap().clone()], later);
        assert_eq!(restored.live(later + LEASE / 2).count(), 1);
        assert_eq!(restored.live(later + LEASE).count(), 0);
    }

    #[test]
    fn the_second_live_process_of_one_identity_is_contested() {
        let (registry, id, first, secret, now) = registered();
        let second = heartbeat(None);
        assert_eq!(
            registry.admit(&id, &second, Credential::Own(secret), now),
            Admission::Contest { holder: first.instance }
        );
        assert_eq!(registry.admit(&id, &second, Credential::Own(secret), now + LEASE), Admission::Check);
    }

    #[test]
    fn nobody_takes_an_id_without_its_token() {
        let (registry, id, beat, _, now) = registered();
        let other = Digest::of(b"other");
        assert_eq!(registry.admit(&id, &beat, Credential::Own(other), now), Admission::Unknown);
        assert_eq!(registry.admit(&id, &heartbeat(Some(other)), Credential::Join, now), Admission::Taken);
        assert_eq!(registry.admit(&id, &heartbeat(None), Credential::Join, now), Admission::Taken);
        let stranger = "fs-2".parse().unwrap();
        assert_eq!(registry.admit(&stranger, &beat, Credential::Own(other), now), Admission::Unknown);
        assert_eq!(registry.admit(&stranger, &heartbeat(None), Credential::Join, now), Admission::Taken);
    }

    #[test]
    fn an_address_that_was_not_reached_is_listed_to_nobody_and_checked_again() {
        let (mut registry, id, beat, secret, now) = registered();
        let row = registry.registration(&id, &beat, false, Timestamp::UNIX_EPOCH).unwrap();
        assert!(!registry.knows(&row));
        registry.register(row.clone(), 0, now);
        assert!(registry.knows(&row));
        assert_eq!(registry.live(now).count(), 0);
        assert_eq!(registry.admit(&id, &beat, Credential::Own(secret), now), Admission::Check);
        let restored = Registry::restore(vec![row], now);
        assert_eq!(restored.live(now).count(), 0);
        assert_eq!(restored.admit(&id, &beat, Credential::Own(secret), now), Admission::Check);
    }
}
