use proptest::prelude::*;

use super::*;

const FREE_BYTES: u64 = 1 << 40;
const CALLED: Replica = Replica { assigned: true, complete: false, leaving: false, begun: false };
const HELD: Replica = Replica { complete: true, begun: true, ..CALLED };
const LEAVING: Replica = Replica { assigned: false, leaving: true, ..CALLED };

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
        free: FREE_BYTES,
        room: FREE_BYTES,
        in_flight: 0,
    }
}

fn target(zone: &str, replicas: u32) -> ReplicaTarget {
    ReplicaTarget { zone: (!zone.is_empty()).then(|| zone.parse().unwrap()), replicas }
}

fn made(
    file: FileId,
    targets: &[ReplicaTarget],
    replicas: &BTreeMap<ServerId, Replica>,
    servers: &[Candidate],
) -> Plan {
    plan(&PlanInput { file, size: 1, through: None, targets, replicas }, servers)
}

/// Carries a plan out, with every replica complete afterwards; the number of changes until nothing is left to do.
fn settle(
    file: FileId,
    targets: &[ReplicaTarget],
    replicas: &mut BTreeMap<ServerId, Replica>,
    servers: &[Candidate],
) -> usize {
    let mut changes = 0;
    for _ in 0..10 {
        let plan = made(file, targets, replicas, servers);
        changes += plan.assign.len();
        if plan.assign.is_empty() && plan.release.is_empty() {
            return changes;
        }
        replicas.extend(plan.assign.into_iter().map(|id| (id, HELD)));
        replicas.retain(|id, _| !plan.release.contains(id));
    }
    panic!("it does not settle");
}

#[test]
fn every_zone_gets_its_replicas() {
    let servers: Vec<_> = (0..12).map(|n| server(n, ["eu", "us", "ap"][n % 3])).collect();
    let mut replicas = BTreeMap::new();
    assert_eq!(settle(FileId::new(), &[target("eu", 2), target("us", 3)], &mut replicas, &servers), 5);
    let zone = |id: &ServerId| servers.iter().find(|server| server.id == *id).unwrap().zone.to_string();
    let in_zone = |name: &str| replicas.keys().filter(|id| zone(id) == name).count();
    assert_eq!([in_zone("eu"), in_zone("us"), in_zone("ap")], [2, 3, 0]);
}

#[test]
fn a_server_that_is_away_is_replaced_only_when_it_is_lost_and_dropped_only_when_its_place_is_taken() {
    let (file, targets) = (FileId::new(), [target("eu", 2)]);
    let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
    let mut replicas = BTreeMap::from([(servers[0].id.clone(), HELD), (servers[1].id.clone(), HELD)]);
    (servers[0].live, servers[0].steady) = (false, false);
    assert_eq!(made(file, &targets, &replicas, &servers), Plan::default());
    servers[0].lost = true;
    let repair = made(file, &targets, &replicas, &servers);
    assert_eq!((repair.assign.as_slice(), repair.release.len()), (&[servers[2].id.clone()][..], 0));
    replicas.insert(servers[2].id.clone(), CALLED);
    assert_eq!(made(file, &targets, &replicas, &servers), Plan::default());
    replicas.insert(servers[2].id.clone(), HELD);
    assert_eq!(made(file, &targets, &replicas, &servers).release, [servers[0].id.clone()]);
}

#[test]
fn a_server_that_has_just_come_back_lets_nobody_drop_anything_yet() {
    let (file, targets) = (FileId::new(), [target("eu", 2)]);
    let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
    let replicas: BTreeMap<_, _> = servers.iter().map(|server| (server.id.clone(), HELD)).collect();
    servers.iter_mut().take(2).for_each(|server| server.steady = false);
    assert_eq!(made(file, &targets, &replicas, &servers), Plan::default());
    servers[0].steady = true;
    assert_eq!(made(file, &targets, &replicas, &servers).release, [servers[1].id.clone()]);
}

#[test]
fn a_draining_server_is_emptied_once_others_have_its_files_and_not_when_there_are_none() {
    let (file, targets) = (FileId::new(), [target("eu", 2)]);
    let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
    let mut replicas = BTreeMap::from([(servers[0].id.clone(), HELD), (servers[1].id.clone(), HELD)]);
    servers[0].draining = true;
    let few = made(file, &targets, &replicas, &servers[..2]);
    assert_eq!((few.assign.len(), few.release.len(), few.short, few.converged), (0, 0, 1, false));
    assert_eq!(settle(file, &targets, &mut replicas, &servers), 1);
    assert!(!replicas.contains_key(&servers[0].id) && replicas.len() == 2);
}

#[test]
fn what_is_under_way_to_a_server_that_filled_up_goes_elsewhere_and_what_is_there_stays() {
    let (file, targets) = (FileId::new(), [target("eu", 2)]);
    let mut servers: Vec<_> = (0..3).map(|n| server(n, "eu")).collect();
    (servers[0].full, servers[1].full) = (true, true);
    let mut replicas = BTreeMap::from([(servers[0].id.clone(), HELD), (servers[1].id.clone(), CALLED)]);
    assert_eq!(settle(file, &targets, &mut replicas, &servers), 1);
    assert_eq!(replicas.keys().collect::<Vec<_>>(), [&servers[0].id, &servers[2].id]);
}

#[test]
fn what_is_under_way_to_a_server_with_too_little_room_goes_elsewhere_unless_it_was_begun_there() {
    let (file, targets) = (FileId::new(), [target("eu", 1)]);
    let mut servers: Vec<_> = (0..2).map(|n| server(n, "eu")).collect();
    servers[0].free = 0;
    let assigned = |replica: Replica| {
        let replicas = BTreeMap::from([(servers[0].id.clone(), replica)]);
        made(file, &targets, &replicas, &servers).assign
    };
    assert_eq!(assigned(CALLED), [servers[1].id.clone()]);
    assert!(assigned(Replica { begun: true, ..CALLED }).is_empty(), "its room is taken already");
    assert!(assigned(HELD).is_empty());
}

#[test]
fn a_server_is_not_counted_on_again_before_it_has_dropped_what_it_was_told_to() {
    let (file, targets) = (FileId::new(), [target("eu", 1)]);
    let mut servers: Vec<_> = (0..2).map(|n| server(n, "eu")).collect();
    servers[1].draining = true;
    let mut replicas = BTreeMap::from([(servers[0].id.clone(), LEAVING), (servers[1].id.clone(), HELD)]);
    assert_eq!(
        (made(file, &targets, &replicas, &servers).assign.len(), made(file, &targets, &replicas, &servers).short),
        (0, 1)
    );
    replicas.insert(servers[0].id.clone(), Replica::default());
    assert_eq!(made(file, &targets, &replicas, &servers).assign, [servers[0].id.clone()]);
}

#[test]
fn full_busy_and_weightless_servers_are_sent_nothing() {
    let targets = [target("", 1)];
    for spoil in [
        |server: &mut Candidate| server.room = 1,
        |server: &mut Candidate| server.in_flight = MAX_IN_FLIGHT,
        |server: &mut Candidate| server.weight = 0,
        |server: &mut Candidate| server.draining = true,
        |server: &mut Candidate| server.live = false,
    ] {
        let mut one = server(0, "eu");
        spoil(&mut one);
        let plan = made(FileId::new(), &targets, &BTreeMap::new(), &[one]);
        assert_eq!((plan.assign.len(), plan.short), (0, 1));
    }
}

#[test]
fn what_stands_in_a_zone_counts_for_what_may_stand_anywhere() {
    let servers: Vec<_> = (0..4).map(|n| server(n, ["eu", "us"][n % 2])).collect();
    let mut replicas = BTreeMap::new();
    settle(FileId::new(), &[target("", 2), target("us", 2)], &mut replicas, &servers);
    assert_eq!(replicas.len(), 2);
}

proptest! {
    #[test]
    fn servers_that_come_and_go_move_no_more_than_they_held(
        seed in any::<[u8; 16]>(), count in 4..20_usize, more in 0..5_usize, wanted in 1..4_u32, gone in 0..4_usize,
    ) {
        let file = FileId::try_from(&seed[..]).unwrap();
        let targets = [target("eu", wanted)];
        let mut servers: Vec<_> = (0..count).map(|n| server(n, "eu")).collect();
        let mut replicas = BTreeMap::new();
        prop_assert_eq!(settle(file, &targets, &mut replicas, &servers), usize::try_from(wanted).unwrap());
        servers.extend((count..count + more).map(|n| server(n, "eu")));
        prop_assert_eq!(settle(file, &targets, &mut replicas, &servers), 0);
        let lost = servers[gone].id.clone();
        // One that is away for a while is waited for.
        servers[gone].live = false;
        prop_assert_eq!(settle(file, &targets, &mut replicas, &servers), 0);
        servers[gone].lost = true;
        let moved = usize::from(replicas.contains_key(&lost));
        prop_assert_eq!(settle(file, &targets, &mut replicas, &servers), moved);
        prop_assert!(!replicas.contains_key(&lost));
        // When it comes back, with what it held, nothing is fetched again.
        (servers[gone].live, servers[gone].lost) = (true, false);
        prop_assert_eq!(settle(file, &targets, &mut replicas, &servers), 0);
        prop_assert!(made(file, &targets, &replicas, &servers).converged);
    }
}
