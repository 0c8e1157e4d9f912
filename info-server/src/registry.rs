//! Who is live. Pure: every rule takes the time as an argument.
//!
//! Invariant: a server is live from an accepted heartbeat for one lease, or until it says goodbye; and for one lease
//! after a restart of the info-server if it had not said goodbye before. Of two processes with one identity only the
//! first is accepted, until it is known to be gone; one that was replaced because it seemed gone does not come back while
//! its successor lives, or the two would take turns for ever.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use wire::{
    Digest, ServerId, Zone,
    event::Stream,
    id::{Epoch, InstanceId},
    server::{Heartbeat, Seen, ServerInfo},
};

use crate::{replication::plan::Candidate, store::servers::Enrolled};

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
    /// Since when clients may be sent there, if they may.
    since: Instant,
    /// Since when they may not, if that is for another reason than the end of its lease.
    gone: Option<Instant>,
    load: u32,
    /// How far it has read its streams, by its last heartbeat.
    seen: Option<Seen>,
    /// Processes that were replaced while they seemed gone.
    replaced: VecDeque<InstanceId>,
}

/// Replaced processes of one identity that are remembered.
const REPLACED: usize = 8;

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
    /// Another process of this identity is live, and there is no asking whether it is gone: it keeps its place until its
    /// lease ends.
    Second,
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
            let gone = (!enrolled.present || !enrolled.reachable).then_some(now);
            let replaced = VecDeque::new();
            let entry = Entry { enrolled, lease_until, since: now, gone, load: 0, seen: None, replaced };
            (entry.enrolled.id.clone(), entry)
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
            // What cannot be reached says nothing by not answering; its heartbeats say that it lives.
            let settled = !entry.enrolled.reachable || entry.replaced.contains(&heartbeat.instance);
            let holder = entry.enrolled.instance;
            return if settled { Admission::Second } else { Admission::Contest { holder } };
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
            entry.lease_until = Some(now + LEASE);
            entry.enrolled.last_seen = wall;
            entry.enrolled.free_bytes = heartbeat.free_bytes;
            entry.load = heartbeat.load;
            entry.seen.clone_from(&heartbeat.seen);
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
            weight: heartbeat.weight,
            draining: self.servers.get(id).is_some_and(|entry| entry.enrolled.draining),
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
    pub fn register(&mut self, enrolled: Enrolled, heartbeat: &Heartbeat, now: Instant) {
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
            while replaced.len() > REPLACED {
                replaced.pop_front();
            }
        }
        let (load, seen) = (heartbeat.load, heartbeat.seen.clone());
        let entry = Entry { enrolled, lease_until: Some(now + LEASE), since, gone, load, seen, replaced };
        self.servers.insert(entry.enrolled.id.clone(), entry);
    }

    /// What to store before a server leaves, unless it has left already.
    pub fn leaving(&self, id: &ServerId) -> Option<Enrolled> {
        let entry = self.servers.get(id)?;
        let present = entry.enrolled.present || entry.lease_until.is_some();
        present.then(|| Enrolled { present: false, ..entry.enrolled.clone() })
    }

    /// Ends a server's lease at once.
    pub fn leave(&mut self, id: &ServerId, now: Instant) {
        if let Some(entry) = self.servers.get_mut(id) {
            entry.gone = entry.gone_since(now).or(Some(now));
            entry.lease_until = None;
            entry.enrolled.present = false;
        }
    }

    /// The number up to which every server that ever enrolled has taken in the facts for all, by its own word. `None` while
    /// one of them has not said so in this epoch: it may be away, and hold what was deleted since.
    pub fn all_have_seen(&self, epoch: Epoch) -> Option<u64> {
        let seen = |entry: &Entry| {
            let seen = entry.seen.as_ref().filter(|seen| seen.epoch == epoch)?;
            seen.streams.get(&Stream::All).copied()
        };
        self.servers.values().map(seen).try_fold(u64::MAX, |least, seen| Some(least.min(seen?)))
    }

    /// The server that this token belongs to.
    pub fn by_token(&self, hash: Digest) -> Option<&Enrolled> {
        // A scan, but over a short list that only file servers make us walk; hashes are public to nobody else.
        self.servers.values().map(|entry| &entry.enrolled).find(|enrolled| enrolled.secret_sha256 == hash)
    }

    /// A server as it was last seen, and whether clients may be sent there.
    pub fn look(&self, id: &ServerId, now: Instant) -> Option<(ServerInfo, bool)> {
        self.servers.get(id).map(|entry| (entry.info(), entry.serves(now)))
    }

    /// Whether clients may be sent to a server.
    pub fn serves(&self, id: &ServerId, now: Instant) -> bool {
        self.servers.get(id).is_some_and(|entry| entry.serves(now))
    }

    /// All servers as placement sees them; those that are gone for `repair_after` are lost.
    pub fn candidates(&self, repair_after: Duration, now: Instant) -> Vec<Candidate> {
        self.servers.values().map(|entry| entry.candidate(repair_after, now)).collect()
    }

    /// Begins or ends the emptying of a server, once that is stored.
    pub fn drain(&mut self, id: &ServerId, draining: bool) {
        if let Some(entry) = self.servers.get_mut(id) {
            entry.enrolled.draining = draining;
        }
    }

    /// Every server that ever enrolled.
    pub fn ids(&self) -> Vec<ServerId> {
        self.servers.keys().cloned().collect()
    }

    /// A server, live or not.
    pub fn get(&self, id: &ServerId) -> Option<&Enrolled> {
        self.servers.get(id).map(|entry| &entry.enrolled)
    }

    /// The zones of all enrolled servers, live or not.
    pub fn zones(&self) -> BTreeSet<&Zone> {
        self.servers.values().map(|entry| &entry.enrolled.zone).collect()
    }

    /// The servers that clients may be sent to, as they enrolled.
    pub fn serving(&self, now: Instant) -> impl Iterator<Item = &Enrolled> {
        self.servers.values().filter(move |entry| entry.serves(now)).map(|entry| &entry.enrolled)
    }

    /// The servers that clients may be sent to, by id.
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
            steady: live && now.saturating_duration_since(self.since) >= LEASE,
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
            weight: 1,
            seen: None,
        }
    }

    fn registered() -> (Registry, ServerId, Heartbeat, Digest, Instant) {
        let (id, secret, now) = ("fs-1".parse().unwrap(), Digest::of(b"secret"), Instant::now());
        let beat = heartbeat(Some(secret));
        let mut registry = Registry::default();
        assert_eq!(registry.admit(&id, &beat, Credential::Join, now), Admission::Check);
        let row = registry.registration(&id, &beat, true, Timestamp::UNIX_EPOCH).unwrap();
        registry.register(row, &beat, now);
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
        let row = registry.leaving(&id).unwrap();
        assert_eq!(registry.live(now).count(), 1, "not before it is stored");
        registry.leave(&id, now);
        assert_eq!(registry.live(now).count(), 0);
        assert!(registry.leaving(&id).is_none());
        assert_eq!(registry.admit(&id, &beat, Credential::Own(secret), now), Admission::Check);
        assert_eq!(Registry::restore(vec![row], now).live(now).count(), 0);
    }

    #[test]
    fn a_server_is_lost_once_it_was_away_for_long_and_relied_on_once_it_was_back_for_a_while() {
        let (mut registry, id, beat, _, now) = registered();
        let seen = |registry: &Registry, at: Instant| {
            let candidate = registry.candidates(LEASE * 6, at).remove(0);
            (candidate.live, candidate.steady, candidate.lost)
        };
        assert_eq!(seen(&registry, now), (true, false, false));
        assert_eq!(seen(&registry, now + LEASE * 2), (false, false, false));
        assert_eq!(seen(&registry, now + LEASE * 7), (false, false, true));
        let back = now + LEASE * 8;
        registry.renew(&id, &beat, back, Timestamp::UNIX_EPOCH);
        assert_eq!(seen(&registry, back), (true, false, false));
        registry.renew(&id, &beat, back + LEASE / 2, Timestamp::UNIX_EPOCH);
        assert_eq!(seen(&registry, back + LEASE), (true, true, false));
        registry.leave(&id, back + LEASE);
        assert_eq!(seen(&registry, back + LEASE * 6), (false, false, false));
        assert_eq!(seen(&registry, back + LEASE * 7), (false, false, true));
        // Coming and being unreachable is still being away.
        let row = registry.registration(&id, &beat, false, Timestamp::UNIX_EPOCH).unwrap();
        registry.register(row, &beat, back + LEASE * 7);
        assert_eq!(seen(&registry, back + LEASE * 7), (false, false, true));
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
    fn two_processes_of_one_identity_do_not_take_turns() {
        let (mut registry, id, first, secret, now) = registered();
        let second = heartbeat(None);
        let register = |registry: &mut Registry, beat: &Heartbeat, reachable, at| {
            let row = registry.registration(&id, beat, reachable, Timestamp::UNIX_EPOCH).unwrap();
            registry.register(row, beat, at);
        };
        let own = Credential::Own(secret);
        // The first did not answer when it was asked: the second has its place, whether or not it can be reached itself.
        for reachable in [true, false] {
            register(&mut registry, &second, reachable, now);
            assert_eq!(registry.admit(&id, &first, own, now + LEASE / 2), Admission::Second, "{reachable}");
            assert_eq!(registry.admit(&id, &first, own, now + LEASE), Admission::Check, "the second is gone");
        }
        // A holder that cannot be asked keeps its place for as long as it beats.
        let third = heartbeat(None);
        assert_eq!(registry.admit(&id, &third, own, now + LEASE / 2), Admission::Second);
        register(&mut registry, &first, true, now + LEASE);
        assert_eq!(registry.admit(&id, &second, own, now + LEASE), Admission::Contest { holder: first.instance });
        for _ in 0..3 * REPLACED {
            register(&mut registry, &heartbeat(None), true, now + LEASE);
        }
        assert_eq!(registry.servers[&id].replaced.len(), REPLACED);
    }

    #[test]
    fn what_all_have_seen_is_unknown_while_one_is_away() {
        let (mut registry, id, beat, _, now) = registered();
        let epoch = Epoch::new();
        assert_eq!(registry.all_have_seen(epoch), None);
        let seen = |seq| Some(Seen { epoch, streams: [(Stream::All, seq)].into() });
        registry.renew(&id, &Heartbeat { seen: seen(7), ..beat.clone() }, now, Timestamp::UNIX_EPOCH);
        assert_eq!((registry.all_have_seen(epoch), registry.all_have_seen(Epoch::new())), (Some(7), None));
        let other: ServerId = "fs-2".parse().unwrap();
        let row = Enrolled { id: other.clone(), ..registry.get(&id).unwrap().clone() };
        registry.register(row, &beat, now);
        assert_eq!(registry.all_have_seen(epoch), None);
        registry.renew(&other, &Heartbeat { seen: seen(5), ..beat }, now, Timestamp::UNIX_EPOCH);
        assert_eq!(registry.all_have_seen(epoch), Some(5));
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
        registry.register(row.clone(), &beat, now);
        assert!(registry.knows(&row));
        assert_eq!(registry.live(now).count(), 0);
        assert_eq!(registry.admit(&id, &beat, Credential::Own(secret), now), Admission::Check);
        let restored = Registry::restore(vec![row], now);
        assert_eq!(restored.live(now).count(), 0);
        assert_eq!(restored.admit(&id, &beat, Credential::Own(secret), now), Admission::Check);
    }
}
