//! Who fetches across the links between zones at present, and each one's share of a limited link. Pure.
//!
//! Invariant: what those who fetch across a link were told they may take adds up to its limit; whoever is new takes no more than
//! what is left, or a sliver, until the others have been told to take less. A server is told with each heartbeat, and before
//! it begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use wire::{FileId, ServerId, Zone};

use super::links::Between;

/// How long a server counts as fetching after it was sent to another zone; it asks again every few seconds.
const FRESH: Duration = Duration::from_secs(10);
/// How long a server is believed to keep to what it was told: one that is cut off is not told anything else.
const KEPT: Duration = Duration::from_secs(30);
/// Files of one server that are looked at: it fetches few at a time.
const MOST_FILES: usize = 64;
/// The part of a link, one in so many, that anybody may take: enough to begin with, too little to be seen.
const SLIVER: u64 = 32;

/// The limits of links, and who shares them.
#[derive(Debug)]
pub struct Pulls(BTreeMap<(Zone, Zone), Link>);

#[derive(Debug)]
struct Link {
    /// Bytes a second.
    limit: u64,
    shares: BTreeMap<ServerId, Share>,
}

#[derive(Debug)]
struct Share {
    /// The files that it was sent for, and until when it is believed to fetch each.
    files: BTreeMap<FileId, Instant>,
    /// Bytes a second that it was told, and until when that counts.
    told: u64,
    told_until: Instant,
}

impl Share {
    fn is_fetching(&self, now: Instant) -> bool {
        self.files.values().any(|until| now < *until)
    }
}

impl Pulls {
    /// With limits in bytes a second.
    pub fn new(limits: impl IntoIterator<Item = Between<u64>>) -> Self {
        let link = |(zones, limit)| (zones, Link { limit, shares: BTreeMap::new() });
        Self(limits.into_iter().map(Between::into_pair).map(link).collect())
    }

    /// A server is sent to other zones for chunks of a file; what it may take from each zone from now on.
    pub fn begin(
        &mut self,
        (server, zone): (&ServerId, &Zone),
        file: FileId,
        abroad: &BTreeSet<Zone>,
        now: Instant,
    ) -> BTreeMap<Zone, u64> {
        for other in abroad {
            let Some(link) = self.0.get_mut(&pair(zone, other)) else { continue };
            let new = || Share { files: BTreeMap::new(), told: 0, told_until: now };
            let share = link.shares.entry(server.clone()).or_insert_with(new);
            share.files.retain(|_, until| now < *until);
            if share.files.len() < MOST_FILES {
                share.files.insert(file, now + FRESH);
            }
        }
        self.shares(server, zone, now)
    }

    /// A server has got all of a file. With nothing else to fetch it takes nothing, and asks before it takes anything again.
    pub fn end(&mut self, server: &ServerId, file: FileId) {
        for link in self.0.values_mut() {
            let Some(share) = link.shares.get_mut(server) else { continue };
            if share.files.remove(&file).is_some() && share.files.is_empty() {
                link.shares.remove(server);
            }
        }
    }

    /// What a server may fetch from each other zone, in bytes a second; zones without a limit are left out.
    pub fn shares(&mut self, server: &ServerId, zone: &Zone, now: Instant) -> BTreeMap<Zone, u64> {
        let mut shares = BTreeMap::new();
        for ((a, b), link) in &mut self.0 {
            let other = match (a == zone, b == zone) {
                (true, false) => b,
                (false, true) => a,
                _ => continue,
            };
            shares.insert(other.clone(), link.tell(server, now));
        }
        shares
    }
}

impl Link {
    fn tell(&mut self, server: &ServerId, now: Instant) -> u64 {
        self.shares.retain(|_, share| share.is_fetching(now) || now < share.told_until);
        let fetching = self.shares.values().filter(|share| share.is_fetching(now)).count();
        let taken: u64 = self.shares.iter().filter(|(id, _)| *id != server).map(|(_, share)| share.told).sum();
        let sliver = (self.limit / SLIVER).max(1);
        let Some(own) = self.shares.get_mut(server).filter(|share| share.is_fetching(now)) else {
            // Before it begins it asks, and is told more.
            self.shares.remove(server);
            return sliver;
        };
        let fair = self.limit / u64::try_from(fetching).unwrap_or(u64::MAX).max(1);
        own.told = fair.min(self.limit.saturating_sub(taken)).max(sliver);
        own.told_until = now + KEPT;
        own.told
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
        pulls: Pulls,
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
                pulls: Pulls::new(["us:eu=3200".parse().unwrap()]),
                ids,
                file: FileId::new(),
                eu,
                us,
                now: Instant::now(),
            }
        }

        fn begin(&mut self, n: usize) -> u64 {
            let abroad = [self.eu.clone(), "ap".parse().unwrap()].into();
            self.pulls.begin((&self.ids[n], &self.us), self.file, &abroad, self.now)[&self.eu]
        }

        fn end(&mut self, n: usize) {
            self.pulls.end(&self.ids[n], self.file);
        }

        fn beat(&mut self, n: usize) -> u64 {
            self.pulls.shares(&self.ids[n], &self.us, self.now)[&self.eu]
        }
    }

    #[test]
    fn a_link_is_shared_equally_by_those_who_fetch_across_it() {
        let mut world = World::new();
        let ap = "ap".parse().unwrap();
        assert!(world.pulls.shares(&world.ids[0].clone(), &ap, world.now).is_empty());
        assert_eq!(world.beat(0), LIMIT / SLIVER, "whoever does not fetch takes nothing");
        assert_eq!(world.begin(0), LIMIT);
        assert_eq!(world.begin(1), LIMIT / SLIVER, "the other one was told to take all");
        assert_eq!((world.beat(0), world.beat(1)), (LIMIT / 2, LIMIT / 2));
        world.end(0);
        assert_eq!((world.beat(1), world.beat(0)), (LIMIT, LIMIT / SLIVER));
        // One that is heard of no more keeps its share for a while.
        assert_eq!(world.begin(2), LIMIT / SLIVER);
        world.now += FRESH;
        assert_eq!(world.begin(2), LIMIT / SLIVER);
        world.now += KEPT;
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
                    // It takes nothing any more, whatever it was told.
                    _ => {
                        world.end(n);
                        may[n] = 0;
                    }
                }
                // Whoever lives is told every few seconds.
                for other in (0..4).filter(|other| *other != n) {
                    may[other] = world.beat(other);
                }
                prop_assert!(may.iter().sum::<u64>() <= LIMIT + 4 * (LIMIT / SLIVER), "{:?}", may);
            }
        }
    }
}
