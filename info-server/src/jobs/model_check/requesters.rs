//! Requesters, tried in scenarios: processes of accounts that join, progress and leave.

use wire::{ChunkSet, RequesterId, job::JobState};

use super::*;
use crate::jobs::model::requesters::{MAX_REQUESTERS_PER_ACCOUNT, TooManyRequesters};

#[test]
fn a_requester_that_asks_again_goes_on_with_the_chunks_it_has() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    let lease = sim.claim(0).unwrap();
    sim.report(0, lease.fence, 1);
    let (now, old) = (sim.now, sim.job().record().content.clone().unwrap().file);
    sim.job().leave(ME, now);
    assert_eq!(sim.job().state(), JobState::Stopped);
    let again = sim.coordinator.create(request(OTHER, new_job(false)), Some(found(8 * MIB)), now);
    assert!(sim.coordinator.job(again).unwrap().record().previous_files.is_empty(), "another account never had it");
    sim.coordinator.remove(again);
    sim.id = sim.coordinator.create(request(ME, new_job(false)), Some(found(8 * MIB)), now);
    assert_eq!(sim.job().record().previous_files, [old]);
    let n = lease.span.start();
    assert!(sim.job().chunks().get(n).unwrap().digest.is_some() && !sim.job().chunks().wanted().contains(n));
    assert_eq!(sim.fetched(), 0, "a digest is not a chunk");
    sim.job().progress(ME, ChunkSet::new(), None, now);
    assert!(sim.job().chunks().wanted().contains(n), "the requester lost it");
    sim.job().progress(ME, ChunkSet::from(n..n + 1), None, now);
    assert!(!sim.job().chunks().wanted().contains(n));
    assert_eq!(sim.fetched(), 1, "the requester has it");
    sim.finish();
    assert_eq!(sim.fetched(), sim.job().chunks().count());
}

#[test]
fn a_job_whose_digests_are_known_is_not_done_before_its_chunks_are_there() {
    for keep in [true, false] {
        let mut sim = Simulation::new(8 * MIB, false, None);
        sim.finish();
        let now = sim.now;
        sim.job().leave(ME, now);
        sim.coordinator.tick(&LiveServers::new(), now);
        sim.id = sim.coordinator.create(request(ME, new_job(keep)), Some(found(8 * MIB)), now);
        assert!(sim.job().chunks().iter().all(|(_, chunk)| chunk.digest.is_some()), "all digests are known");
        assert_eq!((sim.job().state(), sim.job().chunks().wanted().len()), (JobState::Running, 0), "keep: {keep}");
        sim.pass(11_000);
        assert_eq!((sim.job().state(), sim.job().chunks().wanted().len()), (JobState::Running, 8), "keep: {keep}");
        sim.finish();
        assert_eq!(sim.fetched(), 8);
    }
}

fn process(of: RequesterKey) -> RequesterKey {
    RequesterKey { process: Some(RequesterId::new()), ..of }
}

#[test]
fn the_processes_of_an_account_leave_each_by_itself_or_all_together() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    let (now, one, two) = (sim.now, process(ME), process(ME));
    assert_eq!((sim.job().join(one, false, now), sim.job().join(two, false, now)), (Ok(()), Ok(())));
    let foreign = RequesterKey { user: OTHER.user, ..two };
    sim.job().leave(foreign, now);
    assert_eq!(sim.job().requesters().present_count(), 3, "an id means nothing with another account");
    sim.job().leave(ME, now);
    sim.job().leave(one, now);
    assert_eq!((sim.job().requesters().present_count(), sim.job().requesters().has_account(ME.user)), (1, true));
    assert!(!sim.job().may_take_part(one, false), "a late request does not bring it back");
    sim.job().renew_requester(one, now);
    sim.restart();
    assert!(sim.job().requesters().has_left(one) && !sim.job().requesters().has_left(two));
    assert_eq!(sim.job().join(one, false, now), Ok(()));
    sim.job().leave_account(ME.user, now);
    assert_eq!((sim.job().state(), sim.job().requesters().has_account(ME.user)), (JobState::Stopped, false));
}

#[test]
fn chunks_are_wanted_until_each_process_of_an_account_has_them() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    sim.finish();
    let (now, two) = (sim.now, process(ME));
    sim.job().join(two, false, now).unwrap();
    sim.job().progress(ME, ChunkSet::from(0..8), None, now);
    sim.job().progress(two, ChunkSet::from(0..3), None, now);
    (0..WORKERS).for_each(|worker| drop(sim.live.remove(&id(worker))));
    sim.pass(1);
    assert_eq!(*sim.job().chunks().wanted(), ChunkSet::from(3..8));
}

#[test]
fn a_kept_result_stays_when_a_requester_that_did_not_keep_it_leaves() {
    let mut sim = Simulation::new(8 * MIB, true, None);
    let (now, two) = (sim.now, process(ME));
    assert!(sim.job().may_take_part(two, false));
    assert_eq!(sim.job().take_part(two, now), Ok(()));
    sim.job().leave(two, now);
    assert_eq!(sim.job().state(), JobState::Running);
    sim.job().leave(ME, now);
    assert_eq!(sim.job().state(), JobState::Stopped);
}

#[test]
fn an_account_has_so_many_requesters_and_the_absent_ones_make_room() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    let now = sim.now;
    let others: Vec<RequesterKey> =
        std::iter::repeat_with(|| process(ME)).take(MAX_REQUESTERS_PER_ACCOUNT - 1).collect();
    others.iter().for_each(|who| sim.job().join(*who, false, now).unwrap());
    let newcomer = process(ME);
    assert_eq!(sim.job().join(newcomer, false, now), Err(TooManyRequesters));
    assert_eq!(sim.job().take_part(newcomer, now), Err(TooManyRequesters));
    assert_eq!(sim.job().join(process(OTHER), false, now), Ok(()), "another account has its own room");
    sim.job().leave(others[7], now);
    assert_eq!(sim.job().join(newcomer, false, now), Ok(()));
    let (_, saved) = sim.job().snapshot();
    assert_eq!(saved.requesters.len(), MAX_REQUESTERS_PER_ACCOUNT + 1);
    assert!(!sim.job().requesters().contains(others[7]));
}
