//! Leases, tried in scenarios: spans taken over, connections shared, chunks lost.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use wire::{
    ChunkSet,
    job::{JobState, NewJob},
};

use super::*;

#[test]
fn the_rest_of_a_slow_span_is_taken_over() {
    let mut sim = Simulation::new(16 * MIB, false, None);
    let slow = sim.claim(0).unwrap();
    assert!(slow.span.range().len() > 1);
    for _ in 0..300 {
        // It reports, and no byte arrives.
        sim.report(0, slow.fence, 0);
        for worker in 1..WORKERS {
            sim.claim(worker);
            for fence in sim.leases_of(worker) {
                sim.report(worker, fence, 1);
            }
        }
        sim.pass(200);
        sim.carry_out();
        sim.check();
    }
    assert_eq!(sim.job().state(), JobState::Done, "the others fetched all of it");
}

#[test]
fn a_silent_workers_rest_is_taken_at_once_and_its_late_report_is_refused() {
    let mut sim = Simulation::new(64 * MIB, false, None);
    let silent = sim.claim(0).unwrap();
    assert!(silent.span.range().len() > 1);
    sim.report(0, silent.fence, 1);
    // The others take all that is free, and keep at it.
    let mut others: Vec<(usize, u64)> = Vec::new();
    for _ in 0..3 {
        for worker in 1..WORKERS {
            others.extend(sim.claim(worker).map(|lease| (worker, lease.fence)));
        }
    }
    sim.pass(1_600);
    for (worker, fence) in others {
        sim.report(worker, fence, 99);
    }
    sim.finish();
    let lost = sim.report(0, silent.fence, 0);
    assert_eq!(lost, ReportOutcome::Stale);
}

#[test]
fn chunks_of_a_dead_worker_are_fetched_again_unless_every_requester_has_them() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    while let Some(lease) = sim.claim(0) {
        sim.report(0, lease.fence, 99);
    }
    assert_eq!(sim.job().state(), JobState::Done);
    let now = sim.now;
    sim.job().progress(ME, ChunkSet::from(0..3), None, now);
    sim.live.remove(&id(0));
    sim.pass(1);
    assert_eq!((sim.job().state(), sim.job().chunks().wanted().clone()), (JobState::Running, ChunkSet::from(3..8)));
    sim.live.insert(id(0), live_server());
    sim.pass(1);
    assert_eq!(sim.job().state(), JobState::Done, "it holds them still");
}

#[test]
fn a_worker_that_leaves_loses_its_leases_at_once() {
    let mut sim = Simulation::new(64 * MIB, false, None);
    let left = sim.claim(0).unwrap();
    let kept = sim.claim(1).unwrap();
    sim.live.remove(&id(0));
    sim.pass(1);
    assert_eq!((sim.leases_of(0), sim.leases_of(1)), (vec![], vec![kept.fence]));
    assert_eq!(sim.report(0, left.fence, 1), ReportOutcome::Stale);
}

#[test]
fn one_origin_is_never_given_more_connections_than_it_may_have() {
    let now = Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH };
    let mut coordinator = Coordinator::new(JobLimits { origin_connections: 8, ..limits() });
    let new = NewJob { connections: Some(3), ..new_job(false) };
    let job = coordinator.create(request(ME, new.clone()), Some(found(4096 * MIB)), now);
    // A mirror that redirects to the same origin.
    let url = "https://mirror.example.org/y.iso".parse().unwrap();
    let other = coordinator.create(request(ME, NewJob { url, ..new }), Some(found(4096 * MIB)), now);
    let mut connections = 0;
    for worker in 0..9 {
        for job in [job, other] {
            let claim = WorkerClaim { server: id(worker), live: live_server(), held: None };
            if let Some(ClaimOutcome::Offer(offer)) = coordinator.claim(job, &claim, now) {
                connections += offer.lease.map_or(0, |lease| u32::from(lease.connections));
            }
        }
    }
    assert_eq!(connections, 8);
}

#[test]
fn the_spans_of_a_worker_that_died_with_the_info_server_are_taken_soon_after_the_restart() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    // More chunks are begun than may be hedged.
    sim.job().record_mut().connections = 4;
    let lost = sim.claim(0).unwrap();
    let more = sim.claim(0).unwrap();
    sim.restart();
    let back = sim.now.at;
    sim.pass(999);
    // A worker that lives reports in time, and keeps what it has.
    assert!(sim.job().leases().get(lost.fence).is_some() && sim.job().leases().get(more.fence).is_some());
    while sim.job().state() != JobState::Done {
        for worker in 1..WORKERS {
            sim.claim(worker);
            for fence in sim.leases_of(worker) {
                sim.report(worker, fence, 99);
            }
        }
        sim.pass(100);
    }
    let taken = sim.now.at.duration_since(back);
    println!("{taken:?}");
    assert!(taken <= Duration::from_millis(2_800), "{taken:?}");
}

#[test]
fn chunks_that_a_live_worker_lost_with_its_disk_are_fetched_again() {
    for done in [false, true] {
        let mut sim = Simulation::new(8 * MIB, false, None);
        let lease = sim.claim(0).unwrap();
        sim.report(0, lease.fence, 99);
        while let Some(lease) = sim.claim(1).filter(|_| done) {
            sim.report(1, lease.fence, 99);
        }
        let held: ChunkSet = lease.span.range().map(|n| n..n + 1).collect();
        sim.pass(10_000);
        sim.carry_out();
        assert!(!sim.has_unconfirmed_holder(), "the same process still holds it");
        // It is back before its lease ends, and reports what it holds: first all, then not even that.
        sim.live.insert(id(0), live_server());
        assert!(sim.has_unconfirmed_holder());
        let now = sim.now;
        let claim = |held: &ChunkSet, live: &LiveServer| WorkerClaim {
            server: id(0),
            live: live.clone(),
            held: Some(held.clone()),
        };
        let live = sim.live[&id(0)].clone();
        sim.coordinator.claim(sim.id, &claim(&held, &live), now);
        let wanted = sim.job().chunks().wanted().clone();
        assert!(!sim.has_unconfirmed_holder() && held.iter().flatten().all(|n| !wanted.contains(n)), "{wanted:?}");
        let less = ChunkSet::from(lease.span.start()..lease.span.start() + 1);
        sim.coordinator.claim(sim.id, &claim(&less, &live), now);
        assert_eq!(sim.job().state(), JobState::Running);
        let wanted = sim.job().chunks().wanted().clone();
        assert!(held.iter().flatten().all(|n| wanted.contains(n) != less.contains(n)), "{wanted:?}");
        sim.finish();
    }
}
