//! What is to change about where one file stands. Pure.
//!
//! Invariants: whoever holds the file or was told to keeps it, whatever the draw says now, until it is gone for good or
//! emptied; nothing is dropped before everything that is wanted is complete and verified on servers that have been live for
//! a while. So servers that come and go move few files, and a server that flickers moves none.

use std::collections::{BTreeMap, BTreeSet};

use wire::{FileId, ServerId, Zone, catalog::ZoneStatus};

use crate::placement::{self, Rank};

/// Replicas under way to one server at once, so that a large repair does not drown it.
const MAX_IN_FLIGHT: u32 = 64;

/// So many replicas, in one zone or anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The zone; none means all of them.
    pub zone: Option<Zone>,
    /// How many.
    pub replicas: u32,
}

/// A server that could hold files.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its id.
    pub id: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// How much of a zone's files it should hold beside the others.
    pub weight: u32,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Whether its lease runs.
    pub live: bool,
    /// Whether it has been live long enough to be relied on.
    pub steady: bool,
    /// Whether it is gone for so long that it is to be replaced.
    pub lost: bool,
    /// Whether it takes nothing in for want of room.
    pub full: bool,
    /// Bytes it could still store.
    pub free: u64,
    /// Those of them that nothing is on its way for.
    pub room: u64,
    /// Replicas on their way there.
    pub in_flight: u32,
}

/// What a server has to do with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// Whether it is to hold it.
    pub assigned: bool,
    /// Whether it verifiably holds all of it and was not told to drop it.
    pub complete: bool,
    /// Whether it was told to drop it and has not said since that nothing is left: what it reported is about to go.
    pub leaving: bool,
    /// Whether it verified any of it.
    pub begun: bool,
}

/// The file and what is asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The file.
    pub file: FileId,
    /// Bytes in it.
    pub size: u64,
    /// The server that must be among its holders while it is there.
    pub through: Option<&'a ServerId>,
    /// What is wanted.
    pub wants: &'a [Want],
    /// Who has to do with it.
    pub parts: &'a BTreeMap<ServerId, Part>,
}

/// What is to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Servers that are to hold the file from now on.
    pub assign: Vec<ServerId>,
    /// Servers that need not hold it any more.
    pub release: Vec<ServerId>,
    /// Replicas for which there is no server.
    pub short: u32,
    /// Whether wanted and there agree.
    pub settled: bool,
}

impl Candidate {
    fn stands_in(&self, zone: Option<&Zone>) -> bool {
        zone.is_none_or(|zone| *zone == self.zone)
    }

    /// Whether it takes files in general.
    pub const fn takes(&self) -> bool {
        self.live && !self.draining && self.weight > 0
    }
}

impl Subject<'_> {
    fn part(&self, server: &Candidate) -> Part {
        self.parts.get(&server.id).copied().unwrap_or_default()
    }

    /// A replica that will last: not on a server that is gone for good or being emptied, nor under way to one that is full. What
    /// was begun has its room already.
    fn stays(&self, server: &Candidate) -> bool {
        let part = self.part(server);
        let comes = !server.full && (part.begun || !server.live || server.free >= self.size);
        part.assigned && !server.lost && !server.draining && (part.complete || comes)
    }

    fn can_take(&self, server: &Candidate) -> bool {
        let part = self.part(server);
        let fits = server.room >= self.size.saturating_add(placement::HEADROOM) && server.in_flight < MAX_IN_FLIGHT;
        server.takes() && !part.assigned && !part.leaving && (part.complete || fits)
    }

    fn is_sure(&self, server: &Candidate) -> bool {
        self.part(server).complete && server.live && server.steady
    }

    fn rank(&self, server: &Candidate) -> (bool, Rank) {
        (self.through == Some(&server.id), placement::rank(self.file, &server.id, server.weight))
    }
}

/// Compares what is wanted with what is there.
pub fn plan(subject: &Subject<'_>, servers: &[Candidate]) -> Plan {
    let mut plan = Plan::default();
    let mut kept: BTreeSet<&ServerId> = BTreeSet::new();
    let mut sure = true;
    // Zones come first: what stands in one counts for the replicas that may stand anywhere.
    let (anywhere, zones): (Vec<&Want>, Vec<&Want>) = subject.wants.iter().partition(|want| want.zone.is_none());
    for want in zones.into_iter().chain(anywhere) {
        let count = usize::try_from(want.replicas).unwrap_or(usize::MAX);
        let pool: Vec<&Candidate> = servers.iter().filter(|server| server.stands_in(want.zone.as_ref())).collect();
        let mut staying: Vec<&Candidate> = pool.iter().copied().filter(|server| subject.stays(server)).collect();
        staying.sort_by_cached_key(|server| {
            std::cmp::Reverse((kept.contains(&server.id), subject.is_sure(server), subject.rank(server)))
        });
        staying.truncate(count);
        sure &= staying.len() >= count && staying.iter().all(|server| subject.is_sure(server));
        kept.extend(staying.iter().map(|server| &server.id));

        let already = pool.iter().filter(|server| plan.assign.contains(&server.id)).count();
        let missing = count.saturating_sub(staying.len()).saturating_sub(already);
        let mut able: Vec<&Candidate> = pool
            .into_iter()
            .filter(|server| missing > 0 && subject.can_take(server) && !plan.assign.contains(&server.id))
            .collect();
        able.sort_by_cached_key(|server| std::cmp::Reverse((subject.part(server).complete, subject.rank(server))));
        able.truncate(missing);
        plan.short = plan.short.saturating_add(u32::try_from(missing.saturating_sub(able.len())).unwrap_or(u32::MAX));
        plan.assign.extend(able.into_iter().map(|server| server.id.clone()));
    }
    if sure {
        let spare = |(id, part): &(&ServerId, &Part)| (part.assigned || part.complete) && !kept.contains(*id);
        plan.release = subject.parts.iter().filter(spare).map(|(id, _)| id.clone()).collect();
    }
    plan.settled = sure && plan.release.is_empty() && plan.assign.is_empty();
    plan
}

/// What is wanted and what is there, by zone; the key is empty for what may stand anywhere.
pub fn status(subject: &Subject<'_>, servers: &[Candidate]) -> BTreeMap<String, ZoneStatus> {
    let zone = |want: &Want| {
        let pool = || servers.iter().filter(|server| server.stands_in(want.zone.as_ref()));
        let count = |servers: usize| u32::try_from(servers).unwrap_or(u32::MAX);
        let complete = count(pool().filter(|server| server.live && subject.part(server).complete).count());
        let able = |server: &&Candidate| {
            let part = subject.part(server);
            server.live && (part.complete || part.assigned || subject.can_take(server))
        };
        let status = ZoneStatus { wanted: want.replicas, complete, servers: count(pool().filter(able).count()) };
        (want.zone.as_ref().map(ToString::to_string).unwrap_or_default(), status)
    };
    subject.wants.iter().map(zone).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: u64 = 1 << 40;
    const CALLED: Part = Part { assigned: true, complete: false, leaving: false, begun: false };
    const HELD: Part = Part { complete: true, begun: true, ..CALLED };
    const LEAVING: Part = Part { assigned: false, leaving: true, ..CALLED };

    fn server(n: usize, zone: &str) -> Candidate {
        Candidate {
            id: format!("fs-{n}").parse().unwrap(),
            zone: zone.parse().unwrap(),
            weight: 1,
            draining: false,
            live: true,
            steady: true,
            lost: false,
            full: false,
            free: ROOM,
            room: ROOM,
            in_flight: 0,
        }
    }

    fn want(zone: &str, replicas: u32) -> Want {
        Want { zone: (!zone.is_empty()).then(|| zone.parse().unwrap()), replicas }
    }

    fn made(file: FileId, wants: &[Want], parts: &BTreeMap<ServerId, Part>, servers: &[Candidate]) -> Plan {
        plan(&Subject { file, size: 1, through: None, wants, parts }, servers)
    }

    /// Carries a plan out, with every replica complete afterwards; the number of changes until nothing is left to do.
    fn settle(file: FileId, wants: &[Want], parts: &mut BTreeMap<ServerId, Part>, servers: &[Candidate]) -> usize {
        let mut changes = 0;
        for _ in 0..10 {
            let plan = made(file, wants, parts, servers);
            changes += plan.assign.len();
            if plan.assign.is_empty() && plan.release.is_empty() {
                return changes;
            }
            parts.extend(plan.assign.into_iter().map(|id| (id, HELD)));
            parts.retain(|id, _| !plan.release.contains(id));
        }
        panic!("it does not settle");
    }

    #[test]
    fn every_zone_gets_its_replicas() {
        let servers: Vec<_> = (0..12).map(|n| server(n, ["eu", "us", "ap"][n % 3])).collect();
        let mut parts = BTreeMap::new();
        assert_eq!(settle(FileId::new(), &[want("eu", 2), want("us", 3)], &mut parts, &servers), 5);
        let zone = |id: &ServerId| servers.iter().find(|server| server.id == *id).unwrap().zone.to_string();
        let in_zone = |name: &str| parts.keys().filter(|id| zone(id) == name).count();
        assert_eq!([in_zone("eu"), in_zone("us"), in_zone("ap")], [2, 3, 0]);
    }

    #[test]
    fn a_server_that_is_away_is_replaced_only_when_it_is_lost_and_dropped_only_when_its_place_is_taken() {
        let (file, wants) = (FileId::new(), [want("eu", 2)]);
        let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
        let mut parts = BTreeMap::from([(servers[0].id.clone(), HELD), (servers[1].id.clone(), HELD)]);
        (servers[0].live, servers[0].steady) = (false, false);
        assert_eq!(made(file, &wants, &parts, &servers), Plan::default());
        servers[0].lost = true;
        let repair = made(file, &wants, &parts, &servers);
        assert_eq!((repair.assign.as_slice(), repair.release.len()), (&[servers[2].id.clone()][..], 0));
        parts.insert(servers[2].id.clone(), CALLED);
        assert_eq!(made(file, &wants, &parts, &servers), Plan::default());
        parts.insert(servers[2].id.clone(), HELD);
        assert_eq!(made(file, &wants, &parts, &servers).release, [servers[0].id.clone()]);
    }

    #[test]
    fn a_server_that_has_just_come_back_lets_nobody_drop_anything_yet() {
        let (file, wants) = (FileId::new(), [want("eu", 2)]);
        let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
        let parts: BTreeMap<_, _> = servers.iter().map(|server| (server.id.clone(), HELD)).collect();
        servers.iter_mut().take(2).for_each(|server| server.steady = false);
        assert_eq!(made(file, &wants, &parts, &servers), Plan::default());
        servers[0].steady = true;
        assert_eq!(made(file, &wants, &parts, &servers).release, [servers[1].id.clone()]);
    }

    #[test]
    fn a_draining_server_is_emptied_once_others_have_its_files_and_not_when_there_are_none() {
        let (file, wants) = (FileId::new(), [want("eu", 2)]);
        let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
        let mut parts = BTreeMap::from([(servers[0].id.clone(), HELD), (servers[1].id.clone(), HELD)]);
        servers[0].draining = true;
        let few = made(file, &wants, &parts, &servers[..2]);
        assert_eq!((few.assign.len(), few.release.len(), few.short, few.settled), (0, 0, 1, false));
        assert_eq!(settle(file, &wants, &mut parts, &servers), 1);
        assert!(!parts.contains_key(&servers[0].id) && parts.len() == 2);
    }

    #[test]
    fn what_is_under_way_to_a_server_that_filled_up_goes_elsewhere_and_what_is_there_stays() {
        let (file, wants) = (FileId::new(), [want("eu", 2)]);
        let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
        (servers[0].full, servers[1].full) = (true, true);
        let mut parts = BTreeMap::from([(servers[0].id.clone(), HELD), (servers[1].id.clone(), CALLED)]);
        assert_eq!(settle(file, &wants, &mut parts, &servers), 1);
        assert_eq!(parts.keys().collect::<Vec<_>>(), [&servers[0].id, &servers[2].id]);
    }

    #[test]
    fn what_is_under_way_to_a_server_with_too_little_room_goes_elsewhere_unless_it_was_begun_there() {
        let (file, wants) = (FileId::new(), [want("eu", 1)]);
        let mut servers: Vec<_> = (0..2).map(|n| server(n, "eu")).collect();
        servers[0].free = 0;
        let assigned = |part: Part| {
            let parts = BTreeMap::from([(servers[0].id.clone(), part)]);
            made(file, &wants, &parts, &servers).assign
        };
        assert_eq!(assigned(CALLED), [servers[1].id.clone()]);
        assert!(assigned(Part { begun: true, ..CALLED }).is_empty(), "its room is taken already");
        assert!(assigned(HELD).is_empty());
    }

    #[test]
    fn a_server_is_not_counted_on_again_before_it_has_dropped_what_it_was_told_to() {
        let (file, wants) = (FileId::new(), [want("eu", 1)]);
        let mut servers: Vec<_> = (0..2).map(|n| server(n, "eu")).collect();
        servers[1].draining = true;
        let mut parts = BTreeMap::from([(servers[0].id.clone(), LEAVING), (servers[1].id.clone(), HELD)]);
        assert_eq!(
            (made(file, &wants, &parts, &servers).assign.len(), made(file, &wants, &parts, &servers).short),
            (0, 1)
        );
        parts.insert(servers[0].id.clone(), Part::default());
        assert_eq!(made(file, &wants, &parts, &servers).assign, [servers[0].id.clone()]);
    }

    #[test]
    fn full_busy_and_weightless_servers_are_sent_nothing() {
        let wants = [want("", 1)];
        for spoil in [
            |server: &mut Candidate| server.room = 1,
            |server: &mut Candidate| server.in_flight = MAX_IN_FLIGHT,
            |server: &mut Candidate| server.weight = 0,
            |server: &mut Candidate| server.draining = true,
            |server: &mut Candidate| server.live = false,
        ] {
            let mut one = server(0, "eu");
            spoil(&mut one);
            let plan = made(FileId::new(), &wants, &BTreeMap::new(), &[one]);
            assert_eq!((plan.assign.len(), plan.short), (0, 1));
        }
    }

    #[test]
    fn what_stands_in_a_zone_counts_for_what_may_stand_anywhere() {
        let servers: Vec<_> = (0..4).map(|n| server(n, ["eu", "us"][n % 2])).collect();
        let mut parts = BTreeMap::new();
        settle(FileId::new(), &[want("", 2), want("us", 2)], &mut parts, &servers);
        assert_eq!(parts.len(), 2);
    }

    proptest! {
        #[test]
        fn servers_that_come_and_go_move_no_more_than_they_held(
            seed in any::<[u8; 16]>(), count in 4..20_usize, more in 0..5_usize, replicas in 1..4_u32, gone in 0..4_usize,
        ) {
            let file = FileId::try_from(&seed[..]).unwrap();
            let wants = [want("eu", replicas)];
            let mut servers: Vec<_> = (0..count).map(|n| server(n, "eu")).collect();
            let mut parts = BTreeMap::new();
            prop_assert_eq!(settle(file, &wants, &mut parts, &servers), usize::try_from(replicas).unwrap());
            servers.extend((count..count + more).map(|n| server(n, "eu")));
            prop_assert_eq!(settle(file, &wants, &mut parts, &servers), 0);
            let lost = servers[gone].id.clone();
            (servers[gone].live, servers[gone].lost) = (false, true);
            let moved = usize::from(parts.contains_key(&lost));
            prop_assert_eq!(settle(file, &wants, &mut parts, &servers), moved);
            prop_assert!(!parts.contains_key(&lost));
            // When it comes back, with what it held, nothing is fetched again.
            (servers[gone].live, servers[gone].lost) = (true, false);
            prop_assert_eq!(settle(file, &wants, &mut parts, &servers), 0);
            prop_assert!(made(file, &wants, &parts, &servers).settled);
        }
    }
}
