//! The bandwidth of limited links between zones, shared by the file servers that fetch across them. Pure.
//!
//! Invariant: the allocations of a link add up to its limit; a server that begins is allocated no more than what is left, or a minimal
//! share, until the others have been given less. A server receives its allocation before it begins and with each heartbeat.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lifecycle::settings::Size;
use wire::{FileId, ServerId, Zone};

use crate::config::ZonePairSetting;

/// Time for which a server counts as fetching after it was given sources in another zone; it asks again every few seconds.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which an allocation counts: a server that is cut off keeps to its last one.
const ALLOCATION_LIFETIME: Duration = Duration::from_secs(30);
/// Files counted for one server: it fetches few at a time.
const MAX_FILES_PER_SERVER: usize = 64;
/// The smallest share of a link is its limit divided by this: enough to begin with, too little to overload the link.
const MIN_SHARE_DIVISOR: u64 = 32;

/// A file server that fetches a file from other zones.
#[derive(Debug, Clone, Copy)]
pub struct CrossZoneFetch<'a> {
    /// The server.
    pub server: &'a ServerId,
    /// Its zone.
    pub zone: &'a Zone,
    /// The file.
    pub file: FileId,
    /// The zones of its sources.
    pub source_zones: &'a BTreeSet<Zone>,
}

/// The limits of links, and the servers that share them.
#[derive(Debug)]
pub struct LinkBandwidth(BTreeMap<(Zone, Zone), Link>);

#[derive(Debug)]
struct Link {
    /// Bytes a second.
    limit: u64,
    shares: BTreeMap<ServerId, Share>,
}

#[derive(Debug)]
struct Share {
    /// Files that it fetches, each with the end of its fetch timeout.
    files: BTreeMap<FileId, Instant>,
    /// Bytes a second.
    allocated: u64,
    allocated_until: Instant,
}

impl Share {
    fn is_fetching(&self, now: Instant) -> bool {
        self.files.values().any(|until| now < *until)
    }
}

impl LinkBandwidth {
    /// Makes links with limits in bytes a second.
    pub fn new(limits: impl IntoIterator<Item = ZonePairSetting<Size>>) -> Self {
        let link = |(zones, Size(limit))| (zones, Link { limit, shares: BTreeMap::new() });
        Self(limits.into_iter().map(ZonePairSetting::into_pair).map(link).collect())
    }

    /// Notes that a server is given sources in other zones for a file; returns its allocation for each limited link of its zone.
    pub fn begin(&mut self, fetch: &CrossZoneFetch<'_>, now: Instant) -> BTreeMap<Zone, u64> {
        let CrossZoneFetch { server, zone, file, source_zones } = *fetch;
        for other in source_zones {
            let Some(link) = self.0.get_mut(&pair(zone, other)) else { continue };
            let new = || Share { files: BTreeMap::new(), allocated: 0, allocated_until: now };
            let share = link.shares.entry(server.clone()).or_insert_with(new);
            share.files.retain(|_, until| now < *until);
            if share.files.len() < MAX_FILES_PER_SERVER {
                share.files.insert(file, now + FETCH_TIMEOUT);
            }
        }
        self.shares(server, zone, now)
    }

    /// Notes that a server has all of a file. With nothing else to fetch it takes nothing, and asks before it takes anything again.
    pub fn end(&mut self, server: &ServerId, file: FileId) {
        for link in self.0.values_mut() {
            let Some(share) = link.shares.get_mut(server) else { continue };
            if share.files.remove(&file).is_some() && share.files.is_empty() {
                link.shares.remove(server);
            }
        }
    }

    /// Returns a server's allocation for each other zone, in bytes a second; zones without a limit are left out.
    pub fn shares(&mut self, server: &ServerId, zone: &Zone, now: Instant) -> BTreeMap<Zone, u64> {
        let mut shares = BTreeMap::new();
        for ((a, b), link) in &mut self.0 {
            let other = match (a == zone, b == zone) {
                (true, false) => b,
                (false, true) => a,
                _ => continue,
            };
            shares.insert(other.clone(), link.allocate(server, now));
        }
        shares
    }
}

impl Link {
    fn allocate(&mut self, server: &ServerId, now: Instant) -> u64 {
        self.shares.retain(|_, share| share.is_fetching(now) || now < share.allocated_until);
        let fetching = self.shares.values().filter(|share| share.is_fetching(now)).count();
        let taken: u64 = self.shares.iter().filter(|(id, _)| *id != server).map(|(_, share)| share.allocated).sum();
        let min_share = (self.limit / MIN_SHARE_DIVISOR).max(1);
        let Some(own) = self.shares.get_mut(server).filter(|share| share.is_fetching(now)) else {
            // A server asks before it begins, and is then allocated more.
            self.shares.remove(server);
            return min_share;
        };
        let fair = self.limit / u64::try_from(fetching).unwrap_or(u64::MAX).max(1);
        own.allocated = fair.min(self.limit.saturating_sub(taken)).max(min_share);
        own.allocated_until = now + ALLOCATION_LIFETIME;
        own.allocated
    }
}

fn pair(a: &Zone, b: &Zone) -> (Zone, Zone) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 3200;

    struct World {
        bandwidth: LinkBandwidth,
        ids: Vec<ServerId>,
        file: FileId,
        eu: Zone,
        us: Zone,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let [eu, us] = ["eu", "us"].map(|zone| zone.parse().unwrap());
            let ids = (0..4).map(|n| format!("fs-{n}").parse().unwrap()).collect();
            Self {
                bandwidth: LinkBandwidth::new(["us:eu=3200".parse().unwrap()]),
                ids,
                file: FileId::new(),
                eu,
                us,
                now: Instant::now(),
            }
        }

        fn begin(&mut self, n: usize) -> u64 {
            let source_zones = &[self.eu.clone(), "ap".parse().unwrap()].into();
            let fetch = CrossZoneFetch { server: &self.ids[n], zone: &self.us, file: self.file, source_zones };
            self.bandwidth.begin(&fetch, self.now)[&self.eu]
        }

        fn end(&mut self, n: usize) {
            self.bandwidth.end(&self.ids[n], self.file);
        }

        fn beat(&mut self, n: usize) -> u64 {
            self.bandwidth.shares(&self.ids[n], &self.us, self.now)[&self.eu]
        }
    }

    #[test]
    fn a_link_is_shared_equally_by_those_who_fetch_across_it() {
        let mut world = World::new();
        let ap = "ap".parse().unwrap();
        assert!(world.bandwidth.shares(&world.ids[0].clone(), &ap, world.now).is_empty());
        assert_eq!(world.beat(0), LIMIT / MIN_SHARE_DIVISOR, "a server that does not fetch has no share");
        assert_eq!(world.begin(0), LIMIT);
        assert_eq!(world.begin(1), LIMIT / MIN_SHARE_DIVISOR, "the other one has all of it");
        assert_eq!((world.beat(0), world.beat(1)), (LIMIT / 2, LIMIT / 2));
        world.end(0);
        assert_eq!((world.beat(1), world.beat(0)), (LIMIT, LIMIT / MIN_SHARE_DIVISOR));
        // A silent server keeps its share for a while.
        assert_eq!(world.begin(2), LIMIT / MIN_SHARE_DIVISOR);
        world.now += FETCH_TIMEOUT;
        assert_eq!(world.begin(2), LIMIT / MIN_SHARE_DIVISOR);
        world.now += ALLOCATION_LIFETIME;
        assert_eq!(world.begin(2), LIMIT);
    }

    proptest! {
        #[test]
        fn nobody_is_told_what_another_one_was(steps in prop::collection::vec((0..4_usize, 0..3_u8, 0..4_u64), 1..60)) {
            let (mut world, mut may) = (World::new(), [0; 4]);
            for (n, what, seconds) in steps {
                world.now += Duration::from_secs(seconds);
                match what {
                    0 => may[n] = world.begin(n),
                    1 => may[n] = world.beat(n),
                    // It takes nothing any more, whatever its allocation was.
                    _ => {
                        world.end(n);
                        may[n] = 0;
                    }
                }
                // A live server receives its allocation every few seconds.
                for other in (0..4).filter(|other| *other != n) {
                    may[other] = world.beat(other);
                }
                prop_assert!(may.iter().sum::<u64>() <= LIMIT + 4 * (LIMIT / MIN_SHARE_DIVISOR), "{:?}", may);
            }
        }
    }
}
