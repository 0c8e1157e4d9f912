//! Checks, tried in scenarios: faulty workers, conflicts, the full verification.

use wire::{
    ChunkSet, Digest,
    job::{Checked, JobReason, JobState, SpanPurpose},
};

use super::*;
use crate::jobs::model::record::ConflictRecord;

fn conflict_record(sim: &mut Simulation, n: u32) -> Option<ConflictRecord> {
    let job = sim.job();
    job.verifier().record(n, job.workers())
}

#[test]
fn a_fast_worker_that_races_all_others_is_compared_nevertheless() {
    let mut sim = Simulation::new(8 * MIB, false, Some(0));
    // The others begin, and fetch nothing before it has all.
    (1..3).for_each(|worker| drop(sim.claim(worker)));
    for _ in 0..60 {
        sim.claim(0);
        for fence in sim.leases_of(0) {
            sim.report(0, fence, 99);
        }
        for worker in 1..3 {
            for fence in sim.leases_of(worker) {
                sim.report(worker, fence, 0);
            }
            sim.claim(worker);
        }
        sim.pass(100);
    }
    sim.finish();
    assert!(sim.job().workers().by_server(&id(0)).unwrap().excluded, "it returned a wrong digest of every chunk");
}

/// Has two workers report different digests; returns the chunk.
fn make_conflict(sim: &mut Simulation) -> u32 {
    let lease = sim.claim(0).unwrap();
    sim.report(0, lease.fence, 99);
    for _ in 0..50 {
        if let Some(lease) = sim.claim(1) {
            sim.report(1, lease.fence, 99);
            if let Some(n) = sim.job().verifier().conflicting_chunks().first() {
                return *n;
            }
        }
        sim.pass(100);
    }
    panic!("nothing was compared");
}

#[test]
fn a_conflict_outlives_a_restart_and_a_third_worker_decides_it() {
    let mut sim = Simulation::new(8 * MIB, false, Some(0));
    let n = make_conflict(&mut sim);
    let before = conflict_record(&mut sim, n);
    sim.restart();
    assert_eq!(conflict_record(&mut sim, n), before);
    assert!(!sim.job().chunks().wanted().contains(n), "in conflict, not to be fetched anew");
    let lease = sim.claim(2).unwrap();
    assert_eq!((lease.purpose, lease.span.range()), (SpanPurpose::Check, n..n + 1));
    sim.report(2, lease.fence, 1);
    assert!(sim.job().verifier().conflicting_chunks().is_empty());
    assert!(sim.job().workers().by_server(&id(0)).unwrap().excluded);
    assert_eq!(sim.job().chunks().get(n).unwrap().digest, Some(truth(n)));
    sim.restart();
    assert!(sim.job().verifier().conflicting_chunks().is_empty(), "what is decided does not come back");
    sim.finish();
}

#[test]
fn a_full_verification_outlives_a_restart() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    sim.job().record_mut().expected = Some((Digest::of(b"other"), Checked::Sha256));
    sim.finish();
    let now = sim.now;
    sim.job().progress(ME, ChunkSet::from(0..8), Some(Digest::of(b"whole")), now);
    let remaining = sim.job().verifier().full_verification().clone();
    assert!(remaining.len() >= 4, "{remaining:?}");
    sim.restart();
    assert_eq!((sim.job().state(), sim.job().verifier().full_verification().clone()), (JobState::Checking, remaining));
    for _ in 0..400 {
        for worker in 0..WORKERS {
            sim.claim(worker);
            for fence in sim.leases_of(worker) {
                sim.report(worker, fence, 99);
            }
        }
        sim.pass(100);
    }
    assert_eq!(sim.job().record().reason, Some(JobReason::WrongDigest), "all agree on what is not the file");
}

#[test]
fn a_wrong_sha256_has_every_chunk_compared_and_then_names_the_failure() {
    let mut sim = Simulation::new(8 * MIB, false, None);
    sim.job().record_mut().expected = Some((Digest::of(b"other"), Checked::Sha256));
    sim.finish();
    let now = sim.now;
    sim.job().progress(ME, ChunkSet::from(0..8), Some(Digest::of(b"whole")), now);
    assert_eq!(sim.job().state(), JobState::Checking);
    for _ in 0..200 {
        for worker in 0..WORKERS {
            sim.claim(worker);
            for fence in sim.leases_of(worker) {
                sim.report(worker, fence, 99);
            }
        }
        sim.pass(100);
    }
    assert_eq!((sim.job().state(), sim.job().record().reason), (JobState::Failed, Some(JobReason::WrongDigest)));
}
