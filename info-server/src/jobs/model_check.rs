//! A check of the model's invariants: workers, requesters and time do what they may, in any order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use proptest::prelude::*;
use wire::{
    ChunkSet, Digest, JobId, ServerId, Zone,
    id::InstanceId,
    job::{ChunkDigest, JobReason, JobState, LeaseReport, NewJob, SpanFailure, Validator},
};

use super::{
    coordinator::{
        Coordinator, Decided, JobLimits,
        admission::JobRequest,
        workers::{ClaimOutcome, LeaseKey, WorkerClaim},
    },
    model::{
        effect::Effect,
        job::{Job, reports::ReportOutcome, view::ServerZones},
        moment::Moment,
        record::RequesterKey,
        retention::Lifetimes,
        worker_table::{LiveServer, LiveServers},
    },
    origin_probe::{ProbeOutcome, ProbedContent},
};

mod account_limit;
mod checks;
mod leases;
mod requesters;
mod start_retry;
mod steps;

use steps::{Step, steps};

const MIB: u64 = 1 << 20;
const ME: RequesterKey = RequesterKey { user: 1, process: None };
const OTHER: RequesterKey = RequesterKey { user: 2, process: None };
const WORKERS: usize = 4;

/// A job, its workers, and a clock.
struct Simulation {
    coordinator: Coordinator,
    id: JobId,
    now: Moment,
    live: LiveServers,
    faulty: Option<usize>,
    digests: BTreeMap<u32, Digest>,
    generation: u32,
}

fn id(n: usize) -> ServerId {
    format!("fs-{n}").parse().unwrap()
}

fn zone() -> Zone {
    "eu".parse().unwrap()
}

fn live_server() -> LiveServer {
    LiveServer { zone: zone(), instance: InstanceId::new() }
}

fn truth(n: u32) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn limits() -> JobLimits {
    let long = Duration::from_secs(100_000);
    let lifetimes = Lifetimes { requester_grace: long, ended_job: long, kept_result: long };
    let stuck_after = super::model::lease_table::stuck_after(origin::Limits::default());
    JobLimits { lifetimes, origin_connections: 32, stuck_after, jobs_per_account: 16 }
}

fn new_job(keep: bool) -> NewJob {
    let url = "https://example.org/x.iso".parse().unwrap();
    NewJob { url, sha256: None, connections: None, start_at: None, keep, zones: None, name: None }
}

fn request(requester: RequesterKey, new: NewJob) -> JobRequest {
    JobRequest { new, requester, seed: 7 }
}

fn found(size: u64) -> ProbedContent {
    let validator = Validator::Etag("\"1\"".to_owned());
    ProbedContent {
        name: "x.iso".parse().unwrap(),
        size,
        validator,
        sha256: None,
        origin: "https://example.org".to_owned(),
    }
}

impl Simulation {
    fn new(size: u64, keep: bool, faulty: Option<usize>) -> Self {
        let now = Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH };
        let mut coordinator = Coordinator::new(limits());
        let id = coordinator.create(request(ME, new_job(keep)), Some(found(size)), now);
        let live = (0..WORKERS).map(|n| (self::id(n), live_server())).collect();
        Self { coordinator, id, now, live, faulty, digests: BTreeMap::new(), generation: 0 }
    }

    fn job(&mut self) -> &mut Job {
        self.coordinator.job_mut(self.id).unwrap()
    }

    /// Returns the number of chunks that are shown as fetched.
    fn fetched(&mut self) -> u32 {
        let at = self.now.at;
        self.job().info(at, &ServerZones::new()).fetched
    }

    fn claim(&mut self, worker: usize) -> Option<wire::job::Lease> {
        let claim = WorkerClaim { server: id(worker), live: self.live.get(&id(worker))?.clone(), held: None };
        let claim = self.coordinator.claim(self.id, &claim, self.now).unwrap();
        match claim {
            ClaimOutcome::Offer(offer) => offer.lease,
            ClaimOutcome::JobOver(_) | ClaimOutcome::NotAdmitted => None,
        }
    }

    fn has_unconfirmed_holder(&self) -> bool {
        self.coordinator.job(self.id).unwrap().has_unconfirmed_holder(&self.live)
    }

    fn lease_key(&self, worker: usize, fence: u64) -> LeaseKey {
        LeaseKey { job: self.id, server: id(worker), fence }
    }

    fn leases_of(&mut self, worker: usize) -> Vec<u64> {
        let Some(idx) = self.job().workers().find(&id(worker)) else { return Vec::new() };
        self.job().leases().of_worker(idx).map(|(fence, _)| fence).collect()
    }

    fn reported_digest(&self, worker: usize, n: u32) -> Digest {
        if self.faulty == Some(worker) { Digest::of(b"wrong") } else { truth(n) }
    }

    fn report(&mut self, worker: usize, fence: u64, count: usize) -> ReportOutcome {
        let rest: Vec<u32> = self
            .job()
            .leases()
            .get(fence)
            .map(|lease| lease.rest().iter().flatten().take(count).collect())
            .unwrap_or_default();
        let chunks: Vec<ChunkDigest> =
            rest.into_iter().map(|n| ChunkDigest { n, sha256: self.reported_digest(worker, n) }).collect();
        let bytes = chunks.len() as u64 * MIB;
        let report = LeaseReport { chunks, bytes, failed: None };
        match self.coordinator.report(&self.lease_key(worker, fence), &report, self.now) {
            Some(ReportOutcome::JobOver(_)) | None => ReportOutcome::Stale,
            Some(outcome) => outcome,
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now.at += Duration::from_millis(millis);
        self.now.wall += jiff::SignedDuration::from_millis(i64::try_from(millis).unwrap());
        self.coordinator.tick(&self.live, self.now);
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Claim(worker) => drop(self.claim(worker)),
            Step::Report(worker, which, count) => {
                let leases = self.leases_of(worker);
                if let Some(fence) = leases.get(which).filter(|_| self.live.contains_key(&id(worker))) {
                    self.report(worker, *fence, count);
                }
            }
            Step::Late(worker, fence) => {
                let known = self.leases_of(worker).contains(&fence);
                let outcome = self.report(worker, fence, 0);
                assert!(known || outcome == ReportOutcome::Stale, "an unknown fence is stale");
            }
            Step::Fail(worker, which, busy) => {
                let reason = if busy { JobReason::Busy } else { JobReason::Unreachable };
                let failed = Some(SpanFailure { reason, retry_after_s: None });
                if let Some(fence) = self.leases_of(worker).get(which) {
                    let report = LeaseReport { failed, ..LeaseReport::default() };
                    self.coordinator.report(&self.lease_key(worker, *fence), &report, self.now);
                }
            }
            Step::Pass(millis) => self.pass(millis),
            Step::Die(worker) => {
                self.live.remove(&id(worker));
                self.pass(1);
            }
            Step::Return(worker) => {
                self.live.insert(id(worker), live_server());
                self.pass(1);
            }
            Step::Has(a, b) if a < b => {
                let count = self.job().chunks().count();
                let now = self.now;
                self.job().progress(ME, ChunkSet::from(a.min(count - 1)..b.min(count)), None, now);
            }
            Step::Has(..) => {}
            Step::Restart => self.restart(),
        }
        self.carry_out();
        self.check();
    }

    /// Restarts the info-server from what is stored of the job.
    fn restart(&mut self) {
        self.carry_out();
        let (record, saved) = self.job().snapshot();
        let mut coordinator = Coordinator::new(limits());
        coordinator.restore(saved, record, 7, self.now);
        self.coordinator = coordinator;
    }

    /// Carries out the effects, as the task does.
    fn carry_out(&mut self) {
        for Decided { effects, .. } in self.coordinator.take_decisions() {
            for effect in effects {
                let now = self.now;
                match effect {
                    Effect::Arbitrate(n) => self.job().arbitrate(n, Some(truth(n)), now),
                    Effect::ProbeOrigin => {
                        let size = self.job().record().content.as_ref().unwrap().size;
                        self.coordinator.note_probe(self.id, ProbeOutcome::Divisible(found(size)), 7, now);
                    }
                    _ => {}
                }
            }
        }
    }

    fn check(&mut self) {
        let generation = self.job().record().generation;
        if generation != self.generation {
            self.generation = generation;
            self.digests.clear();
        }
        let faulty = self.faulty.is_some();
        let before = std::mem::take(&mut self.digests);
        let job = self.job();
        // No two live leases overlap, but for hedges.
        let mut taken = ChunkSet::new();
        for lease in job.leases().fetches().map(|(_, lease)| lease).filter(|lease| !lease.hedge) {
            for n in lease.span() {
                assert!(!taken.contains(n), "chunk {n} is leased twice");
                taken.insert(n..n + 1);
            }
        }
        let size = job.record().content.as_ref().unwrap().size;
        assert!(
            job.record().duplicate_bytes <= (size / 50).max(2 * job.chunk_size()),
            "{} bytes wasted",
            job.record().duplicate_bytes
        );
        let mut known = BTreeMap::new();
        for n in 0..job.chunks().count() {
            let chunk = job.chunks().get(n).unwrap();
            // The first digest stands until it is withdrawn.
            if let Some(first) = before.get(&n) {
                assert!(chunk.digest == Some(*first) || faulty, "the digest of chunk {n} changed");
            }
            known.extend(chunk.digest.map(|digest| (n, digest)));
            // Nothing that a live worker holds is fetched again, and nothing is forgotten.
            let held = chunk.holder.is_some_and(|worker| job.workers().is_live(worker));
            assert!(!(held && job.chunks().wanted().contains(n)), "chunk {n} is held and wanted");
            let nobody_needs = chunk.digest.is_some() && !job.record().keep && job.requesters().all_have(n);
            let seen = held || job.chunks().wanted().contains(n) || nobody_needs || job.verifier().has_conflict(n);
            assert!(seen || !job.is_open(), "chunk {n} is lost");
        }
        if job.state() == JobState::Done {
            assert!(job.chunks().wanted().is_empty() && job.leases().is_empty() && !job.verifier().has_conflicts());
        }
        self.digests = known;
    }

    /// Has all live workers work on until the end.
    fn finish(&mut self) {
        for _ in 0..2_000 {
            let state = self.job().state();
            if state == JobState::Done {
                return;
            }
            assert!(self.job().is_open(), "it ended as {state:?}: {:?}", self.job().record().reason);
            for worker in 0..WORKERS {
                self.claim(worker);
                for fence in self.leases_of(worker) {
                    if self.live.contains_key(&id(worker)) {
                        self.report(worker, fence, 2);
                    }
                }
                self.carry_out();
                self.check();
            }
            self.pass(100);
            self.carry_out();
            self.check();
        }
        panic!("the work does not end: {:?}", self.job());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_work_ends_whatever_order_reports_arrive_in(steps in steps(), chunks in 1..40_u64, keep in any::<bool>()) {
        let mut sim = Simulation::new(chunks * MIB - 1, keep, None);
        sim.check();
        for step in &steps {
            sim.apply(step);
        }
        if sim.job().is_open() {
            sim.live.insert(id(WORKERS - 1), live_server());
            sim.finish();
            for n in 0..sim.job().chunks().count() {
                prop_assert_eq!(sim.job().chunks().get(n).unwrap().digest, Some(truth(n)));
            }
        }
    }

    #[test]
    fn a_faulty_worker_is_excluded_when_it_is_compared_and_no_other_is(steps in steps(), chunks in 2..40_u64, faulty in 0..2_usize) {
        let mut sim = Simulation::new(chunks * MIB, true, Some(faulty));
        for step in steps.iter().filter(|step| !matches!(step, Step::Fail(..))) {
            sim.apply(step);
        }
        if sim.job().is_open() {
            sim.live = (0..WORKERS).map(|n| (id(n), live_server())).collect();
            sim.finish();
            let job = sim.job();
            for (_, worker) in job.workers().iter() {
                prop_assert!(!worker.excluded || worker.server == id(faulty));
            }
            for (_, chunk) in job.chunks().iter() {
                // A digest that only the faulty worker reported is not confirmed.
                let wrong = chunk.digest == Some(Digest::of(b"wrong"));
                prop_assert!(!(wrong && chunk.confirmed));
            }
        }
    }
}
