use jiff::Timestamp;

use super::*;

const CHUNKS: u32 = 4;

fn root() -> Digest {
    Digest::of(b"root")
}

/// Returns a server that was assigned to the file (`wanted`) or released from it, and holds `held` chunks.
fn held(id: &str, zone: &str, wanted: Option<bool>, held: u32) -> ServerReplica {
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
    let record = ReplicaRecord {
        server: server.id.clone(),
        wanted,
        runs: ChunkSet::from(0..held),
        root: (held == CHUNKS).then(root),
        sha256: None,
        reported: true,
        dropped: ChunkSet::new(),
    };
    ServerReplica::new(record, server, Some(Duration::ZERO))
}

fn map(servers: Vec<ServerReplica>) -> ReplicaMap {
    ReplicaMap { file: FileId::new(), root: Some(root()), servers, job_zones: None }
}

fn sources(map: &ReplicaMap, requester: Requester<'_>, costs: &[&str]) -> Vec<(String, u8)> {
    let costs = ZoneCosts::new(costs.iter().map(|cost| cost.parse().unwrap()));
    let locations = map.locations(requester, &costs).unwrap();
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
    let mut faulty = held("eu-4", "eu", Some(true), CHUNKS);
    faulty.record.root = Some(Digest::of(b"other"));
    let map = map(vec![
        held("ap-1", "ap", Some(true), CHUNKS),
        busy,
        held("us-2", "us", Some(true), 2),
        held("eu-1", "eu", Some(true), 0),
        held("eu-2", "eu", Some(false), CHUNKS),
        dead,
        faulty,
    ]);
    let us = "us".parse().unwrap();
    let found = sources(&map, Requester::Person(Some(&us)), &["us:ap=9"]);
    assert_eq!(names(&found), [("us-2", 0), ("us-1", 0), ("ap-1", 9)]);
    let eu = "eu".parse().unwrap();
    let found = sources(&map, Requester::Person(Some(&eu)), &["ap:eu=3"]);
    assert_eq!(names(&found), [("us-2", 1), ("us-1", 1), ("ap-1", 3)]);
    assert_eq!(sources(&map, Requester::Person(None), &[]).len(), 3);
    assert_eq!(map.complete(), 2);
}

#[test]
fn only_the_ingress_of_a_zone_is_sent_to_other_zones() {
    let ids = ["us-1", "us-2", "us-3"].map(|id| id.parse::<ServerId>().unwrap());
    let mut servers: Vec<ServerReplica> = ids.iter().map(|id| held(id.as_str(), "us", Some(true), 0)).collect();
    servers.push(held("eu-1", "eu", Some(true), CHUNKS));
    let mut map = map(servers);
    let abroad = |map: &ReplicaMap, id: &ServerId| {
        sources(map, Requester::Server(id), &[]).iter().any(|(name, _)| name == "eu-1")
    };
    let first: Vec<&ServerId> = ids.iter().filter(|id| abroad(&map, id)).collect();
    assert_eq!(first.len(), 1);
    for id in &ids {
        let own: Vec<_> =
            sources(&map, Requester::Server(id), &[]).into_iter().filter(|(_, cost)| *cost == 0).collect();
        assert_eq!(own.len(), 2, "its peers, though they hold nothing yet, and not itself");
    }
    // The next one follows when the first dies.
    let dies = first[0].clone();
    map.servers.iter_mut().filter(|held| held.server.id == dies).for_each(|held| held.live = false);
    let second: Vec<&ServerId> = ids.iter().filter(|id| abroad(&map, id)).collect();
    assert!(second.len() == 1 && *second[0] != dies);
    // Once the zone has it, no server is sent to another zone.
    let has = second[0].clone();
    for held in map.servers.iter_mut().filter(|held| held.server.id == has) {
        held.record.root = Some(root());
    }
    assert!(!ids.iter().any(|id| abroad(&map, id)));
}

#[test]
fn only_those_who_are_to_hold_a_file_or_do_may_ask_for_it() {
    let map = map(vec![
        held("a", "eu", Some(true), 0),
        held("b", "eu", None, 1),
        held("c", "eu", Some(false), CHUNKS),
        held("d", "eu", None, 0),
    ]);
    let asks = |id: &str| map.concerns(&id.parse().unwrap());
    assert_eq!(["a", "b", "c", "d", "e"].map(asks), [true, true, false, false, false]);
}
