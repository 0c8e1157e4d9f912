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
    assert_eq!(registry.live(now + SERVER_LEASE / 2).count(), 1);
    assert_eq!(registry.live(now + SERVER_LEASE).count(), 0);
    assert_eq!(registry.admit(&id, &beat, Credential::Own(secret), now + SERVER_LEASE / 2), Admission::Renew);
    registry.renew(&id, &beat, now + SERVER_LEASE / 2, Timestamp::UNIX_EPOCH);
    assert_eq!(registry.live(now + SERVER_LEASE).count(), 1);
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
        let candidate = registry.candidates(SERVER_LEASE * 6, at).remove(0);
        (candidate.live, candidate.steady, candidate.lost)
    };
    assert_eq!(seen(&registry, now), (true, false, false));
    assert_eq!(seen(&registry, now + SERVER_LEASE * 2), (false, false, false));
    assert_eq!(seen(&registry, now + SERVER_LEASE * 7), (false, false, true));
    let back = now + SERVER_LEASE * 8;
    registry.renew(&id, &beat, back, Timestamp::UNIX_EPOCH);
    assert_eq!(seen(&registry, back), (true, false, false));
    registry.renew(&id, &beat, back + SERVER_LEASE / 2, Timestamp::UNIX_EPOCH);
    assert_eq!(seen(&registry, back + SERVER_LEASE), (true, true, false));
    registry.leave(&id, back + SERVER_LEASE);
    assert_eq!(seen(&registry, back + SERVER_LEASE * 6), (false, false, false));
    assert_eq!(seen(&registry, back + SERVER_LEASE * 7), (false, false, true));
    // Coming and being unreachable is still being away.
    let row = registry.registration(&id, &beat, false, Timestamp::UNIX_EPOCH).unwrap();
    registry.register(row, &beat, back + SERVER_LEASE * 7);
    assert_eq!(seen(&registry, back + SERVER_LEASE * 7), (false, false, true));
}

#[test]
fn after_a_restart_nobody_is_dead_before_one_lease() {
    let (registry, id, ..) = registered();
    let later = Instant::now() + SERVER_LEASE * 100;
    let restored = Registry::restore(vec![registry.get(&id).unwrap().clone()], later);
    assert_eq!(restored.live(later + SERVER_LEASE / 2).count(), 1);
    assert_eq!(restored.live(later + SERVER_LEASE).count(), 0);
}

#[test]
fn the_second_live_process_of_one_identity_is_contested() {
    let (registry, id, first, secret, now) = registered();
    let second = heartbeat(None);
    assert_eq!(
        registry.admit(&id, &second, Credential::Own(secret), now),
        Admission::Contest { holder: first.instance }
    );
    assert_eq!(registry.admit(&id, &second, Credential::Own(secret), now + SERVER_LEASE), Admission::Check);
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
        assert_eq!(registry.admit(&id, &first, own, now + SERVER_LEASE / 2), Admission::Second, "{reachable}");
        assert_eq!(registry.admit(&id, &first, own, now + SERVER_LEASE), Admission::Check, "the second is gone");
    }
    // A holder that cannot be asked keeps its place for as long as it beats.
    let third = heartbeat(None);
    assert_eq!(registry.admit(&id, &third, own, now + SERVER_LEASE / 2), Admission::Second);
    register(&mut registry, &first, true, now + SERVER_LEASE);
    assert_eq!(registry.admit(&id, &second, own, now + SERVER_LEASE), Admission::Contest { holder: first.instance });
    for _ in 0..3 * MAX_REPLACED_INSTANCES {
        register(&mut registry, &heartbeat(None), true, now + SERVER_LEASE);
    }
    assert_eq!(registry.servers[&id].replaced.len(), MAX_REPLACED_INSTANCES);
}

#[test]
fn what_all_have_seen_is_unknown_while_one_is_away() {
    let (mut registry, id, beat, _, now) = registered();
    let epoch = Epoch::new();
    assert_eq!(registry.all_have_seen(epoch), None);
    let seen = |seq| Some(StreamCursors { epoch, streams: [(Stream::All, seq)].into() });
    registry.renew(&id, &Heartbeat { seen: seen(7), ..beat.clone() }, now, Timestamp::UNIX_EPOCH);
    assert_eq!((registry.all_have_seen(epoch), registry.all_have_seen(Epoch::new())), (Some(7), None));
    let other: ServerId = "fs-2".parse().unwrap();
    let row = EnrolledServer { id: other.clone(), ..registry.get(&id).unwrap().clone() };
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
