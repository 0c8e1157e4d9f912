//! The invariants of jobs, tried with whatever workers and time may do.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use proptest::prelude::*;
use wire::{
    AskerId, Digest, JobId, Runs, ServerId, Zone,
    id::InstanceId,
    job::{ChunkDigest, JobState, LeaseReport, NewJob, Purpose, Reason, SpanFailure, Validator},
};

use super::{
    askers::{Crowded, MOST_OF_ACCOUNT, Who},
    asking::Answer,
    board::{Board, Claim, Found},
    effects::Effect,
    job::{Job, Moment},
    report::Told,
    ticks::{Alive, Terms},
};

const MIB: u64 = 1 << 20;
const ME: Who = Who { user: 1, asker: None };
const OTHER: Who = Who { user: 2, asker: None };
const WORKERS: usize = 4;

/// What workers and time do.
#[derive(Debug, Clone)]
enum Deed {
    Claim(usize),
    /// A worker tells of so many chunks of one of its leases.
    Report(usize, usize, usize),
    /// A worker tells of a lease that it may have lost long ago.
    Late(usize, u64),
    Fail(usize, usize, bool),
    Pass(u64),
    Die(usize),
    Return(usize),
    Has(u32, u32),
    /// The server is started again.
    Restart,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let worker = || 0..WORKERS;
    let deed = prop_oneof![
        5 => worker().prop_map(Deed::Claim),
        6 => (worker(), 0..3_usize, 0..9_usize).prop_map(|(w, l, n)| Deed::Report(w, l, n)),
        1 => (worker(), 0..40_u64).prop_map(|(w, fence)| Deed::Late(w, fence)),
        // The last worker never fails: somebody must bring the work to its end.
        1 => (0..WORKERS - 1, 0..3_usize, any::<bool>()).prop_map(|(w, l, busy)| Deed::Fail(w, l, busy)),
        4 => (1..3_000_u64).prop_map(Deed::Pass),
        1 => (0..WORKERS - 1).prop_map(Deed::Die),
        1 => worker().prop_map(Deed::Return),
        1 => (0..40_u32, 0..40_u32).prop_map(|(a, b)| Deed::Has(a, b)),
        1 => Just(Deed::Restart),
    ];
    prop::collection::vec(deed, 0..120)
}

/// A job, its workers, and a clock.
struct Trial {
    board: Board,
    id: JobId,
    now: Moment,
    live: BTreeMap<ServerId, Alive>,
    liar: Option<usize>,
    told: BTreeMap<u32, Digest>,
    generation: u32,
}

fn id(n: usize) -> ServerId {
    format!("fs-{n}").parse().unwrap()
}

fn zone() -> Zone {
    "eu".parse().unwrap()
}

fn alive() -> Alive {
    Alive { zone: zone(), instance: InstanceId::new() }
}

fn truth(n: u32) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn terms() -> Terms {
    let long = Duration::from_secs(100_000);
    Terms { grace: long, memory: long, keep_for: long }
}

fn new_job(keep: bool) -> NewJob {
    let url = "https://example.org/x.iso".parse().unwrap();
    NewJob { url, sha256: None, connections: None, start_at: None, keep, zones: None, name: None }
}

fn found(size: u64) -> Found {
    let validator = Validator::Etag("\"1\"".to_owned());
    Found { name: "x.iso".parse().unwrap(), size, validator, sha256: None, origin: "https://example.org".to_owned() }
}

impl Trial {
    fn new(size: u64, keep: bool, liar: Option<usize>) -> Self {
        let now = Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH };
        let mut board = Board::new(terms(), 32, 16);
        let id = board.create(new_job(keep), Some(found(size)), (ME, 7), now);
        let live = (0..WORKERS).map(|n| (self::id(n), alive())).collect();
        Self { board, id, now, live, liar, told: BTreeMap::new(), generation: 0 }
    }

    fn job(&mut self) -> &mut Job {
        self.board.jobs.get_mut(&self.id).unwrap()
    }

    /// How many chunks are shown as fetched.
    fn fetched(&mut self) -> u32 {
        let at = self.now.at;
        self.job().info(at, &|_| None).fetched
    }

    fn claim(&mut self, worker: usize) -> Option<wire::job::Lease> {
        let alive = self.live.get(&id(worker))?.clone();
        let claim = self.board.claim(self.id, (&id(worker), &alive), None, self.now).unwrap();
        match claim {
            Claim::Work(claimed) => claimed.lease,
            Claim::Over(_) | Claim::NotAdmitted => None,
        }
    }

    fn doubts(&self) -> bool {
        self.board.jobs[&self.id].doubts_a_holder(&self.live)
    }

    fn leases_of(&mut self, worker: usize) -> Vec<u64> {
        let Some(seat) = self.job().seat_of(&id(worker)) else { return Vec::new() };
        self.job().leases.iter().filter(|(_, lease)| lease.seat == seat).map(|(fence, _)| *fence).collect()
    }

    fn says(&self, worker: usize, n: u32) -> Digest {
        if self.liar == Some(worker) { Digest::of(b"a lie") } else { truth(n) }
    }

    fn report(&mut self, worker: usize, fence: u64, count: usize) -> Told {
        let rest: Vec<u32> = self
            .job()
            .leases
            .get(&fence)
            .map(|lease| lease.rest().iter().flatten().take(count).collect())
            .unwrap_or_default();
        let chunks: Vec<ChunkDigest> =
            rest.into_iter().map(|n| ChunkDigest { n, sha256: self.says(worker, n) }).collect();
        let bytes = chunks.len() as u64 * MIB;
        let report = LeaseReport { chunks, bytes, failed: None };
        match self.board.report(self.id, (&id(worker), fence), &report, self.now) {
            Some(Ok(told)) => told,
            Some(Err(_)) | None => Told::Stale,
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now.at += Duration::from_millis(millis);
        self.now.wall += jiff::SignedDuration::from_millis(i64::try_from(millis).unwrap());
        self.board.tick(&self.live, self.now);
    }

    fn does(&mut self, deed: &Deed) {
        match *deed {
            Deed::Claim(worker) => drop(self.claim(worker)),
            Deed::Report(worker, which, count) => {
                let leases = self.leases_of(worker);
                if let Some(fence) = leases.get(which).filter(|_| self.live.contains_key(&id(worker))) {
                    self.report(worker, *fence, count);
                }
            }
            Deed::Late(worker, fence) => {
                let known = self.leases_of(worker).contains(&fence);
                let told = self.report(worker, fence, 0);
                assert!(known || told == Told::Stale, "an unknown fence is stale");
            }
            Deed::Fail(worker, which, busy) => {
                let reason = if busy { Reason::Busy } else { Reason::Unreachable };
                let failed = Some(SpanFailure { reason, retry_after_s: None });
                if let Some(fence) = self.leases_of(worker).get(which) {
                    let report = LeaseReport { failed, ..LeaseReport::default() };
                    self.board.report(self.id, (&id(worker), *fence), &report, self.now);
                }
            }
            Deed::Pass(millis) => self.pass(millis),
            Deed::Die(worker) => {
                self.live.remove(&id(worker));
                self.pass(1);
            }
            Deed::Return(worker) => {
                self.live.insert(id(worker), alive());
                self.pass(1);
            }
            Deed::Has(a, b) if a < b => {
                let count = self.job().count();
                let now = self.now;
                self.job().progress(ME, Runs::from(a.min(count - 1)..b.min(count)), None, now);
            }
            Deed::Has(..) => {}
            Deed::Restart => self.restart(),
        }
        self.follow();
        self.check();
    }

    /// What a restart reads back is what was stored: the whole of each job, as one that takes everything anew writes it.
    fn restart(&mut self) {
        self.follow();
        let (row, saved) = self.job().snapshot();
        let mut board = Board::new(terms(), 32, 16);
        board.restore(saved, row, 7, self.now);
        self.board = board;
    }

    /// Carries out what follows, as the task does.
    fn follow(&mut self) {
        for (_, _, effects) in self.board.take() {
            for effect in effects {
                let now = self.now;
                match effect {
                    Effect::Judge(n) => self.job().judge(n, Some(truth(n)), now),
                    Effect::Probe => {
                        let size = self.job().row.content.as_ref().unwrap().size;
                        self.board.probed(self.id, Answer::Parts(found(size)), 7, now);
                    }
                    _ => {}
                }
            }
        }
    }

    fn check(&mut self) {
        let generation = self.job().row.generation;
        if generation != self.generation {
            self.generation = generation;
            self.told.clear();
        }
        let liar = self.liar.is_some();
        let told = std::mem::take(&mut self.told);
        let job = self.job();
        // No two live leases overlap, but for bets.
        let mut taken = Runs::new();
        for lease in job.leases.values().filter(|lease| lease.purpose == Purpose::Fetch && !lease.bet) {
            for n in lease.span() {
                assert!(!taken.contains(n), "chunk {n} is leased twice");
                taken.insert(n..n + 1);
            }
        }
        let size = job.row.content.as_ref().unwrap().size;
        assert!(job.row.wasted <= (size / 50).max(2 * job.chunk_size()), "{} bytes wasted", job.row.wasted);
        let mut known = BTreeMap::new();
        for n in 0..job.count() {
            let chunk = job.chunk(n).unwrap();
            // The first digest stands until it is withdrawn.
            if let Some(before) = told.get(&n) {
                assert!(chunk.digest == Some(*before) || liar, "the digest of chunk {n} changed");
            }
            known.extend(chunk.digest.map(|digest| (n, digest)));
            // Nothing that a live worker holds is fetched again, and nothing is forgotten.
            let held = chunk.holder.is_some_and(|seat| job.serves(seat));
            assert!(!(held && job.wanted.contains(n)), "chunk {n} is held and wanted");
            let nobody_needs = chunk.digest.is_some() && !job.row.keep && job.everyone_has(n);
            let seen = held || job.wanted.contains(n) || nobody_needs || job.checks.is_disputed(n);
            assert!(seen || !job.is_open(), "chunk {n} is lost");
        }
        if job.row.state == JobState::Done {
            assert!(job.wanted.is_empty() && job.leases.is_empty() && !job.checks.has_disputes());
        }
        self.told = known;
    }

    /// Has everybody who lives work on until the end; how many rounds it took.
    fn finish(&mut self) -> usize {
        for round in 0..2_000 {
            let state = self.job().row.state;
            if state == JobState::Done {
                return round;
            }
            assert!(self.job().is_open(), "it ended as {state:?}: {:?}", self.job().row.reason);
            for worker in 0..WORKERS {
                self.claim(worker);
                for fence in self.leases_of(worker) {
                    if self.live.contains_key(&id(worker)) {
                        self.report(worker, fence, 2);
                    }
                }
                self.follow();
                self.check();
            }
            self.pass(100);
            self.follow();
            self.check();
        }
        panic!("the work does not end: {:?}", self.job());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_work_ends_whatever_order_reports_arrive_in(deeds in deeds(), chunks in 1..40_u64, keep in any::<bool>()) {
        let mut trial = Trial::new(chunks * MIB - 1, keep, None);
        trial.check();
        for deed in &deeds {
            trial.does(deed);
        }
        if trial.job().is_open() {
            trial.live.insert(id(WORKERS - 1), alive());
            trial.finish();
            for n in 0..trial.job().count() {
                prop_assert_eq!(trial.job().chunk(n).unwrap().digest, Some(truth(n)));
            }
        }
    }

    #[test]
    fn a_liar_is_convicted_when_it_is_compared_and_nobody_else_is(deeds in deeds(), chunks in 2..40_u64, liar in 0..2_usize) {
        let mut trial = Trial::new(chunks * MIB, true, Some(liar));
        for deed in deeds.iter().filter(|deed| !matches!(deed, Deed::Fail(..))) {
            trial.does(deed);
        }
        if trial.job().is_open() {
            trial.live = (0..WORKERS).map(|n| (id(n), alive())).collect();
            trial.finish();
            let job = trial.job();
            for worker in &job.workers {
                prop_assert!(!worker.excluded || worker.server == id(liar));
            }
            for chunk in &job.chunks {
                // What only the liar told is known to be its word alone.
                let lied = chunk.digest == Some(Digest::of(b"a lie"));
                prop_assert!(!(lied && chunk.confirmed));
            }
        }
    }
}

#[test]
fn a_fast_worker_that_races_all_others_is_compared_nevertheless() {
    let mut trial = Trial::new(8 * MIB, false, Some(0));
    // The others begin, and bring nothing before it has all.
    (1..3).for_each(|worker| drop(trial.claim(worker)));
    for _ in 0..60 {
        trial.claim(0);
        for fence in trial.leases_of(0) {
            trial.report(0, fence, 99);
        }
        for worker in 1..3 {
            for fence in trial.leases_of(worker) {
                trial.report(worker, fence, 0);
            }
            trial.claim(worker);
        }
        trial.pass(100);
    }
    trial.finish();
    let seat = trial.job().seat_of(&id(0)).unwrap();
    assert!(trial.job().workers[seat].excluded, "it lied about every chunk");
}

#[test]
fn the_rest_of_a_slow_span_is_taken_over() {
    let mut trial = Trial::new(16 * MIB, false, None);
    let slow = trial.claim(0).unwrap();
    assert!(slow.span.range().len() > 1);
    for _ in 0..120 {
        // It is heard of, and brings nothing.
        trial.report(0, slow.fence, 0);
        for worker in 1..WORKERS {
            trial.claim(worker);
            for fence in trial.leases_of(worker) {
                trial.report(worker, fence, 1);
            }
        }
        trial.pass(200);
        trial.follow();
        trial.check();
    }
    assert_eq!(trial.job().row.state, JobState::Done, "the others brought all of it");
}

#[test]
fn a_silent_workers_rest_is_taken_at_once_and_its_late_word_is_refused() {
    let mut trial = Trial::new(64 * MIB, false, None);
    let silent = trial.claim(0).unwrap();
    assert!(silent.span.range().len() > 1);
    trial.report(0, silent.fence, 1);
    // The others take all that is free, and keep at it.
    let mut others: Vec<(usize, u64)> = Vec::new();
    for _ in 0..3 {
        for worker in 1..WORKERS {
            others.extend(trial.claim(worker).map(|lease| (worker, lease.fence)));
        }
    }
    trial.pass(1_600);
    for (worker, fence) in others {
        trial.report(worker, fence, 99);
    }
    trial.finish();
    let lost = trial.report(0, silent.fence, 0);
    assert_eq!(lost, Told::Stale);
}

#[test]
fn what_a_dead_worker_held_is_fetched_again_unless_every_asker_has_it() {
    let mut trial = Trial::new(8 * MIB, false, None);
    while let Some(lease) = trial.claim(0) {
        trial.report(0, lease.fence, 99);
    }
    assert_eq!(trial.job().row.state, JobState::Done);
    let now = trial.now;
    trial.job().progress(ME, Runs::from(0..3), None, now);
    trial.live.remove(&id(0));
    trial.pass(1);
    assert_eq!((trial.job().row.state, trial.job().wanted.clone()), (JobState::Running, Runs::from(3..8)));
    trial.live.insert(id(0), alive());
    trial.pass(1);
    assert_eq!(trial.job().row.state, JobState::Done, "it holds them still");
}

#[test]
fn one_origin_is_never_given_more_connections_than_it_may_have() {
    let now = Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH };
    let mut board = Board::new(terms(), 8, 16);
    let new = NewJob { connections: Some(3), ..new_job(false) };
    let job = board.create(new.clone(), Some(found(4096 * MIB)), (ME, 7), now);
    // Who sends those who ask to whom the first one asks.
    let url = "https://mirror.example.org/y.iso".parse().unwrap();
    let other = board.create(NewJob { url, ..new }, Some(found(4096 * MIB)), (ME, 7), now);
    let mut connections = 0;
    for worker in 0..9 {
        for job in [job, other] {
            if let Some(Claim::Work(claimed)) = board.claim(job, (&id(worker), &alive()), None, now) {
                connections += claimed.lease.map_or(0, |lease| u32::from(lease.connections));
            }
        }
    }
    assert_eq!(connections, 8);
}

#[test]
fn whoever_asks_again_goes_on_with_what_they_have() {
    let mut trial = Trial::new(8 * MIB, false, None);
    let lease = trial.claim(0).unwrap();
    trial.report(0, lease.fence, 1);
    let (now, old) = (trial.now, trial.job().row.content.clone().unwrap().file);
    trial.job().leave(ME, now);
    assert_eq!(trial.job().row.state, JobState::Stopped);
    let again = trial.board.create(new_job(false), Some(found(8 * MIB)), (OTHER, 7), now);
    assert!(trial.board.jobs[&again].row.formerly.is_empty(), "another one never had it");
    trial.board.jobs.remove(&again);
    trial.id = trial.board.create(new_job(false), Some(found(8 * MIB)), (ME, 7), now);
    assert_eq!(trial.job().row.formerly, [old]);
    let n = lease.span.start();
    assert!(trial.job().chunk(n).unwrap().digest.is_some() && !trial.job().wanted.contains(n));
    assert_eq!(trial.fetched(), 0, "a digest is not a chunk");
    trial.job().progress(ME, Runs::new(), None, now);
    assert!(trial.job().wanted.contains(n), "they have lost it");
    trial.job().progress(ME, Runs::from(n..n + 1), None, now);
    assert!(!trial.job().wanted.contains(n));
    assert_eq!(trial.fetched(), 1, "they have it");
    trial.finish();
    assert_eq!(trial.fetched(), trial.job().count());
}

/// Two workers disagree about the first chunk that one of them told of; who they are, the chunk, and the lease that saw it.
fn disagreement(trial: &mut Trial) -> u32 {
    let lease = trial.claim(0).unwrap();
    trial.report(0, lease.fence, 99);
    for _ in 0..50 {
        if let Some(lease) = trial.claim(1) {
            trial.report(1, lease.fence, 99);
            if let Some(n) = trial.job().disputed().first() {
                return *n;
            }
        }
        trial.pass(100);
    }
    panic!("nothing was compared");
}

#[test]
fn a_dispute_outlives_a_restart_and_a_third_one_decides_it() {
    let mut trial = Trial::new(8 * MIB, false, Some(0));
    let n = disagreement(&mut trial);
    let before = trial.job().dispute_row(n);
    trial.restart();
    assert_eq!(trial.job().dispute_row(n), before);
    assert!(!trial.job().wanted.contains(n), "in dispute, not to be fetched anew");
    let lease = trial.claim(2).unwrap();
    assert_eq!((lease.purpose, lease.span.range()), (Purpose::Check, n..n + 1));
    trial.report(2, lease.fence, 1);
    assert!(trial.job().disputed().is_empty());
    let seat = trial.job().seat_of(&id(0)).unwrap();
    assert!(trial.job().workers[seat].excluded);
    assert_eq!(trial.job().chunk(n).unwrap().digest, Some(truth(n)));
    trial.restart();
    assert!(trial.job().disputed().is_empty(), "what is decided does not come back");
    trial.finish();
}

#[test]
fn a_comparing_of_everything_outlives_a_restart() {
    let mut trial = Trial::new(8 * MIB, false, None);
    trial.job().row.expected = Some((Digest::of(b"other"), wire::job::Checked::Sha256));
    trial.finish();
    let now = trial.now;
    trial.job().progress(ME, Runs::from(0..8), Some(Digest::of(b"whole")), now);
    let exam = trial.job().exam().clone();
    assert!(exam.len() >= 4, "{exam:?}");
    trial.restart();
    assert_eq!((trial.job().row.state, trial.job().exam().clone()), (JobState::Checking, exam));
    for _ in 0..400 {
        for worker in 0..WORKERS {
            trial.claim(worker);
            for fence in trial.leases_of(worker) {
                trial.report(worker, fence, 99);
            }
        }
        trial.pass(100);
    }
    assert_eq!(trial.job().row.reason, Some(Reason::WrongDigest), "all agree on what is not the file");
}

#[test]
fn what_a_worker_left_that_died_with_the_info_server_is_taken_soon_after_the_restart() {
    let mut trial = Trial::new(8 * MIB, false, None);
    // More chunks are begun than may be raced.
    trial.job().row.connections = 4;
    let lost = trial.claim(0).unwrap();
    let more = trial.claim(0).unwrap();
    trial.restart();
    let back = trial.now.at;
    trial.pass(999);
    // Whoever lives says so in time, and keeps what it has.
    assert!(trial.job().leases.contains_key(&lost.fence) && trial.job().leases.contains_key(&more.fence));
    while trial.job().row.state != JobState::Done {
        for worker in 1..WORKERS {
            trial.claim(worker);
            for fence in trial.leases_of(worker) {
                trial.report(worker, fence, 99);
            }
        }
        trial.pass(100);
    }
    let taken = trial.now.at.duration_since(back);
    println!("{taken:?}");
    assert!(taken <= Duration::from_millis(2_800), "{taken:?}");
}

#[test]
fn what_a_worker_lost_with_its_disk_is_fetched_again_though_it_lives() {
    for done in [false, true] {
        let mut trial = Trial::new(8 * MIB, false, None);
        let lease = trial.claim(0).unwrap();
        trial.report(0, lease.fence, 99);
        while let Some(lease) = trial.claim(1).filter(|_| done) {
            trial.report(1, lease.fence, 99);
        }
        let held: Runs = lease.span.range().map(|n| n..n + 1).collect();
        trial.pass(10_000);
        trial.follow();
        assert!(!trial.doubts(), "the same process still holds it");
        // It is back before anybody missed it, and says what it has: first all, then not even that.
        trial.live.insert(id(0), alive());
        assert!(trial.doubts());
        let (alive, now) = (trial.live[&id(0)].clone(), trial.now);
        trial.board.claim(trial.id, (&id(0), &alive), Some(&held), now);
        let wanted = trial.job().wanted.clone();
        assert!(!trial.doubts() && held.iter().flatten().all(|n| !wanted.contains(n)), "{wanted:?}");
        let less = Runs::from(lease.span.start()..lease.span.start() + 1);
        trial.board.claim(trial.id, (&id(0), &alive), Some(&less), now);
        assert_eq!(trial.job().row.state, JobState::Running);
        let wanted = trial.job().wanted.clone();
        assert!(held.iter().flatten().all(|n| wanted.contains(n) != less.contains(n)), "{wanted:?}");
        trial.finish();
    }
}

fn process(of: Who) -> Who {
    Who { asker: Some(AskerId::new()), ..of }
}

#[test]
fn the_processes_of_an_account_leave_each_by_itself_or_all_together() {
    let mut trial = Trial::new(8 * MIB, false, None);
    let (now, one, two) = (trial.now, process(ME), process(ME));
    assert_eq!((trial.job().join(one, false, now), trial.job().join(two, false, now)), (Ok(()), Ok(())));
    let foreign = Who { user: OTHER.user, ..two };
    trial.job().leave(foreign, now);
    assert_eq!(trial.job().present(), 3, "an id means nothing with another account");
    trial.job().leave(ME, now);
    trial.job().leave(one, now);
    assert_eq!((trial.job().present(), trial.job().is_asker(ME.user)), (1, true));
    assert_eq!(trial.job().take_part(one, false, now), Ok(false), "its late word does not bring it back");
    trial.job().heard(one, now);
    trial.restart();
    assert!(trial.job().has_left(one) && !trial.job().has_left(two));
    assert_eq!(trial.job().join(one, false, now), Ok(()));
    trial.job().leave_all(ME.user, now);
    assert_eq!((trial.job().row.state, trial.job().is_asker(ME.user)), (JobState::Stopped, false));
}

#[test]
fn chunks_are_wanted_until_each_process_of_an_account_has_them() {
    let mut trial = Trial::new(8 * MIB, false, None);
    trial.finish();
    let (now, two) = (trial.now, process(ME));
    trial.job().join(two, false, now).unwrap();
    trial.job().progress(ME, Runs::from(0..8), None, now);
    trial.job().progress(two, Runs::from(0..3), None, now);
    (0..WORKERS).for_each(|worker| drop(trial.live.remove(&id(worker))));
    trial.pass(1);
    assert_eq!(trial.job().wanted, Runs::from(3..8));
}

#[test]
fn a_kept_result_stays_when_one_who_did_not_keep_it_leaves() {
    let mut trial = Trial::new(8 * MIB, true, None);
    let (now, two) = (trial.now, process(ME));
    assert_eq!(trial.job().take_part(two, false, now), Ok(true));
    trial.job().leave(two, now);
    assert_eq!(trial.job().row.state, JobState::Running);
    trial.job().leave(ME, now);
    assert_eq!(trial.job().row.state, JobState::Stopped);
}

#[test]
fn an_account_has_so_many_processes_and_the_absent_ones_make_room() {
    let mut trial = Trial::new(8 * MIB, false, None);
    let now = trial.now;
    let others: Vec<Who> = std::iter::repeat_with(|| process(ME)).take(MOST_OF_ACCOUNT - 1).collect();
    others.iter().for_each(|who| trial.job().join(*who, false, now).unwrap());
    let newcomer = process(ME);
    assert_eq!(trial.job().join(newcomer, false, now), Err(Crowded));
    assert_eq!(trial.job().take_part(newcomer, false, now), Err(Crowded));
    assert_eq!(trial.job().join(process(OTHER), false, now), Ok(()), "another account has its own room");
    trial.job().leave(others[7], now);
    assert_eq!(trial.job().join(newcomer, false, now), Ok(()));
    let (_, saved) = trial.job().snapshot();
    assert_eq!(saved.askers.len(), MOST_OF_ACCOUNT + 1);
    assert!(!trial.job().askers.contains_key(&others[7]));
}

#[test]
fn a_wrong_sha256_has_everything_compared_and_then_names_the_failure() {
    let mut trial = Trial::new(8 * MIB, false, None);
    trial.job().row.expected = Some((Digest::of(b"other"), wire::job::Checked::Sha256));
    trial.finish();
    let now = trial.now;
    trial.job().progress(ME, Runs::from(0..8), Some(Digest::of(b"whole")), now);
    assert_eq!(trial.job().row.state, JobState::Checking);
    for _ in 0..200 {
        for worker in 0..WORKERS {
            trial.claim(worker);
            for fence in trial.leases_of(worker) {
                trial.report(worker, fence, 99);
            }
        }
        trial.pass(100);
    }
    assert_eq!((trial.job().row.state, trial.job().row.reason), (JobState::Failed, Some(Reason::WrongDigest)));
}
