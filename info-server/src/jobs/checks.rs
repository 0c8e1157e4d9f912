//! Who is right about a chunk's digest. Pure.
//!
//! A sample of each worker's chunks is fetched again by another one. When two disagree, a third one decides, or this server;
//! whoever was wrong is out, and every digest that nobody else confirmed is withdrawn with them.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use wire::{
    Digest, Runs,
    job::{JobState, Purpose, Reason},
};

use super::{
    effects::Effect,
    job::{Job, Moment},
    row::{ClaimRow, DisputeRow},
};

/// How long a check may wait for somebody to make it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A worker that asked this lately is there to make a check.
const ATTACHED: Duration = Duration::from_secs(3);
/// Tries of this server to fetch a chunk that is in dispute.
const TRIES: u32 = 3;
/// Chunks in one span of a check of everything.
const EXAM_SPAN: u32 = 16;

/// What a worker (none: an earlier attempt) says a chunk's digest is, and whether it holds the bytes.
pub(crate) type Claim = (Option<usize>, Digest, bool);

#[derive(Debug, Clone)]
struct Dispute {
    claims: Vec<Claim>,
    judging: bool,
    tries: u32,
}

/// What is in doubt.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    disputes: BTreeMap<u32, Dispute>,
    /// Chunks that are all to be compared, because an asker found another SHA-256.
    exam: Runs,
    /// Checks that nobody could make are waived.
    waived: bool,
    random: u64,
    /// Since when the job is in its state.
    pub(crate) since: Option<Instant>,
}

impl Checks {
    pub(crate) fn new(seed: u64) -> Self {
        let disputes = BTreeMap::new();
        Self { disputes, exam: Runs::new(), waived: false, random: seed | 1, since: None }
    }

    pub(crate) fn is_disputed(&self, n: u32) -> bool {
        self.disputes.contains_key(&n)
    }

    pub(crate) fn has_disputes(&self) -> bool {
        !self.disputes.is_empty()
    }

    pub(crate) fn examined(&mut self, n: u32) {
        self.exam.remove(n..n + 1);
    }

    /// A number below `below`, by xorshift: which chunks are compared must not be known beforehand.
    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 11).unwrap_or(0) % below.max(1)
    }
}

impl Job {
    /// Whether a live worker beside `but` asked for work lately.
    fn another_than(&self, but: impl Fn(usize) -> bool, now: Instant) -> bool {
        let attached = |seen: Instant| now.saturating_duration_since(seen) < ATTACHED;
        let mut seats = 0..self.workers.len();
        seats.any(|seat| {
            let seen = self.workers.get(seat).and_then(|worker| worker.seen);
            self.is_able(seat) && !but(seat) && seen.is_some_and(attached)
        })
    }

    fn checking(&self, n: u32) -> bool {
        self.leases.values().any(|lease| lease.purpose == Purpose::Check && lease.rest().contains(n))
    }

    fn being_checked(&self) -> Runs {
        let checks = self.leases.values().filter(|lease| lease.purpose == Purpose::Check);
        checks.flat_map(|lease| lease.rest().iter().collect::<Vec<_>>()).collect()
    }

    /// For each worker: chunks it told of first, those of them that are confirmed or being compared.
    fn standing(&self) -> Vec<(u32, u32)> {
        let mut standing = vec![(0, 0); self.workers.len()];
        let checking = self.being_checked();
        for (n, chunk) in (0_u32..).zip(&self.chunks) {
            let Some(entry) = chunk.first.and_then(|first| standing.get_mut(first)) else { continue };
            entry.0 += 1;
            entry.1 += u32::from(chunk.confirmed || checking.contains(n));
        }
        standing
    }

    /// Bytes of those that may be asked for twice that races leave alone: as much as it takes to compare a chunk of everybody who was
    /// not compared yet, up to half of all. Else a fast worker with wrong bytes would race the others until none could look.
    pub(crate) fn kept_for_checks(&self) -> u64 {
        if self.checks.waived {
            return 0;
        }
        let standing = self.standing();
        let unseen = standing.iter().filter(|(told, checked)| *told > 0 && *checked == 0).count();
        let done: u32 = standing.iter().map(|(_, checked)| *checked).sum();
        let half = (self.allowance() / self.chunk_size() / 2).max(1);
        let chunks = u64::try_from(unseen).unwrap_or(u64::MAX).min(half.saturating_sub(done.into()));
        chunks.saturating_mul(self.chunk_size())
    }

    /// Chunks that should have been compared by now.
    fn sample_so_far(&self, standing: &[(u32, u32)]) -> u32 {
        let workers = u32::try_from(standing.iter().filter(|(told, _)| *told > 0).count()).unwrap_or(u32::MAX);
        let (told, all) = (standing.iter().map(|(told, _)| *told).sum::<u32>(), self.count().max(1));
        let sample = u64::from((all / 200).max(workers));
        u32::try_from((sample * u64::from(told)).div_ceil(u64::from(all))).unwrap_or(u32::MAX)
    }

    /// The worker whose word is to be compared next, for a claimant.
    fn whom_to_check(&self, claimant: Option<usize>) -> Option<usize> {
        if self.checks.waived || self.spare() < self.chunk_size() {
            return None;
        }
        let standing = self.standing();
        let done: u32 = standing.iter().map(|(_, checked)| *checked).sum();
        let enough = done >= self.sample_so_far(&standing);
        let open = |(seat, (told, checked)): &(usize, (u32, u32))| {
            Some(*seat) != claimant && told > checked && !(enough && *checked > 0)
        };
        let candidates = standing.into_iter().enumerate().filter(open);
        // While spans are fetched, one comes after the other; whoever was never compared comes first.
        candidates
            .min_by_key(|(_, (_, checked))| *checked)
            .filter(|(_, (_, checked))| !enough || *checked == 0)
            .map(|(seat, _)| seat)
    }

    /// A chunk, or a few, for a worker to compare.
    pub(crate) fn check_for(&mut self, seat: usize) -> Option<Range<u32>> {
        let third = |(n, dispute): (&u32, &Dispute)| {
            let party = dispute.claims.iter().any(|(claimant, ..)| *claimant == Some(seat));
            (!party && !dispute.judging && !self.checking(*n)).then_some(*n)
        };
        if let Some(n) = self.checks.disputes.iter().find_map(third) {
            return Some(n..n + 1);
        }
        if let Some(run) = self.exam_for(seat) {
            return Some(run);
        }
        // Work comes first while the sample is small: a check costs as much as a chunk.
        let whom = self.whom_to_check(Some(seat))?;
        let open = |(_, chunk): &(u32, &super::job::Chunk)| chunk.first == Some(whom) && !chunk.confirmed;
        let open: Vec<u32> = (0_u32..).zip(&self.chunks).filter(open).map(|(n, _)| n).collect();
        let checking = self.being_checked();
        let open: Vec<u32> =
            open.into_iter().filter(|n| !checking.contains(*n) && !self.checks.is_disputed(*n)).collect();
        let drawn = self.checks.draw(open.len());
        let n = *open.get(drawn)?;
        let bytes = self.bytes_of(&(n..n + 1));
        self.change_row(|row| row.wasted = row.wasted.saturating_add(bytes));
        Some(n..n + 1)
    }

    fn exam_for(&self, seat: usize) -> Option<Range<u32>> {
        let free = |n: &u32| self.chunk(*n).is_some_and(|chunk| chunk.first != Some(seat)) && !self.checking(*n);
        let start = self.checks.exam.iter().flatten().find(free)?;
        let end = (start..start.saturating_add(EXAM_SPAN)).take_while(|n| self.checks.exam.contains(*n) && free(n));
        Some(start..end.last()? + 1)
    }

    /// Whether something is still to be compared before the job is done.
    pub(crate) fn checks_due(&self, now: Instant) -> bool {
        if self.row.shelf >= super::row::Shelf::Published {
            return false;
        }
        let running = self.leases.values().any(|lease| lease.purpose == Purpose::Check);
        let due = self.whom_to_check(None).is_some_and(|whom| self.another_than(|seat| seat == whom, now));
        running || due || self.row.examining
    }

    /// Opens a dispute about a chunk between whoever told of it first and another one.
    pub(crate) fn dispute(&mut self, n: u32, known: Digest, claim: Claim, now: Moment) {
        let holds = self.chunk(n).is_some_and(|chunk| chunk.holder.is_some() && chunk.holder == chunk.first);
        let first = (self.chunk(n).and_then(|chunk| chunk.first), known, holds);
        let dispute = Dispute { claims: vec![first, claim], judging: false, tries: 0 };
        tracing::warn!(job = %self.row.id, chunk = n, "two workers disagree about a chunk");
        self.checks.disputes.insert(n, dispute);
        self.note_dispute(n);
        self.refresh(n, now.at);
    }

    /// What is kept of a dispute; none when there is none about the chunk.
    pub(crate) fn dispute_row(&self, n: u32) -> Option<DisputeRow> {
        let dispute = self.checks.disputes.get(&n)?;
        let server = |seat: Option<usize>| Some(self.workers.get(seat?)?.server.clone());
        let claim = |(seat, sha256, holds): &Claim| ClaimRow { server: server(*seat), sha256: *sha256, holds: *holds };
        Some(DisputeRow { n, claims: dispute.claims.iter().map(claim).collect() })
    }

    /// Takes up disputes, and the comparing of all chunks, where they were left.
    pub(crate) fn resume_checks(&mut self, disputes: Vec<DisputeRow>, now: Moment) {
        for DisputeRow { n, claims } in disputes {
            let claim = |claim: ClaimRow| (claim.server.map(|server| self.seat(&server)), claim.sha256, claim.holds);
            let claims = claims.into_iter().map(claim).collect();
            self.checks.disputes.insert(n, Dispute { claims, judging: false, tries: 0 });
        }
        if self.row.examining {
            self.checks.exam = self.uncompared();
        }
        // Nobody waits for ever for those who were to make them.
        self.checks.since = Some(now.at);
    }

    /// Chunks whose digest one alone told, and nobody else yet.
    fn uncompared(&self) -> Runs {
        let open = (0_u32..).zip(&self.chunks).filter(|(_, chunk)| chunk.digest.is_some() && !chunk.confirmed);
        open.filter(|(n, _)| !self.checks.is_disputed(*n)).map(|(n, _)| n..n + 1).collect()
    }

    #[cfg(test)]
    pub(crate) fn disputed(&self) -> Vec<u32> {
        self.checks.disputes.keys().copied().collect()
    }

    #[cfg(test)]
    pub(crate) const fn exam(&self) -> &Runs {
        &self.checks.exam
    }

    /// A further word on a chunk in dispute.
    pub(crate) fn testify(&mut self, n: u32, claim: Claim, now: Moment) {
        let Some(dispute) = self.checks.disputes.get_mut(&n) else { return };
        if dispute.claims.iter().any(|(claimant, ..)| *claimant == claim.0) {
            return;
        }
        let agrees = dispute.claims.iter().any(|(_, digest, _)| *digest == claim.1);
        dispute.claims.push(claim);
        self.note_dispute(n);
        if agrees {
            self.resolve(n, claim.1, now);
        } else {
            self.ask_here(n);
        }
    }

    fn ask_here(&mut self, n: u32) {
        if let Some(dispute) = self.checks.disputes.get_mut(&n).filter(|dispute| !dispute.judging) {
            dispute.judging = true;
            self.follow(Effect::Judge(n));
        }
    }

    /// This server's own word on a chunk, or none if it could not fetch it.
    pub(crate) fn judge(&mut self, n: u32, digest: Option<Digest>, now: Moment) {
        let Some(dispute) = self.checks.disputes.get_mut(&n) else { return };
        dispute.judging = false;
        dispute.tries += 1;
        match digest {
            Some(digest) => self.resolve(n, digest, now),
            None if dispute.tries >= TRIES => self.finish(JobState::Failed, Reason::WorkersFailed, now),
            None => {}
        }
        self.settle(now);
    }

    /// A chunk's digest is decided.
    fn resolve(&mut self, n: u32, truth: Digest, now: Moment) {
        let Some(dispute) = self.checks.disputes.remove(&n) else { return };
        self.note_dispute(n);
        let liars = dispute.claims.iter().filter(|(_, digest, _)| *digest != truth);
        let liars: Vec<Option<usize>> = liars.map(|(claimant, ..)| *claimant).collect();
        let right: Vec<&Claim> = dispute.claims.iter().filter(|(_, digest, _)| *digest == truth).collect();
        let first = right.iter().find_map(|claim| claim.0);
        let holder = right.iter().find_map(|(seat, _, holds)| seat.filter(|_| *holds));
        self.change(
            n,
            |chunk| (chunk.digest, chunk.first, chunk.holder, chunk.confirmed) = (Some(truth), first, holder, true),
            now.at,
        );
        self.checks.examined(n);
        for liar in liars {
            match liar {
                Some(seat) => self.convict(seat, now),
                None => self.withdraw(None, now),
            }
        }
    }

    /// A worker told of a digest that is not right: nothing that it alone says counts any more.
    pub(crate) fn convict(&mut self, seat: usize, now: Moment) {
        let Some(worker) = self.worker_mut(seat) else { return };
        worker.excluded = true;
        let server = worker.server.clone();
        tracing::error!(job = %self.row.id, %server, "a worker's digest was wrong: what it fetched is fetched again");
        self.follow(Effect::Convict(server));
        self.drop_leases_of(seat);
        self.change_row(|row| row.examining = false);
        self.checks.exam = Runs::new();
        self.withdraw(Some(seat), now);
        let open: Vec<u32> = self.checks.disputes.keys().copied().collect();
        for n in open {
            self.dismiss(n, seat, now);
        }
        self.refresh_all(now.at);
        self.settle(now);
    }

    /// What is left of a dispute without one of its parties.
    fn dismiss(&mut self, n: u32, seat: usize, now: Moment) {
        self.note_dispute(n);
        let Some(dispute) = self.checks.disputes.get_mut(&n) else { return };
        dispute.claims.retain(|(claimant, ..)| *claimant != Some(seat));
        let claims = dispute.claims.clone();
        match claims.split_first() {
            None => {
                self.checks.disputes.remove(&n);
                self.change(n, |chunk| *chunk = super::job::Chunk::default(), now.at);
            }
            Some((first, rest)) if rest.iter().all(|(_, digest, _)| *digest == first.1) => {
                self.checks.disputes.remove(&n);
                let holder = claims.iter().find(|(_, _, holds)| *holds).and_then(|claim| claim.0);
                let (digest, first, confirmed) = (Some(first.1), first.0, !rest.is_empty());
                self.change(
                    n,
                    |chunk| {
                        (chunk.digest, chunk.first, chunk.holder, chunk.confirmed) = (digest, first, holder, confirmed);
                    },
                    now.at,
                );
            }
            Some(_) => {}
        }
    }

    /// Withdraws what somebody alone told (none: what an earlier attempt left), and what they hold.
    fn withdraw(&mut self, whose: Option<usize>, now: Moment) {
        for n in 0..self.count() {
            let Some(chunk) = self.chunk(n) else { continue };
            let alone = chunk.digest.is_some() && chunk.first == whose && !chunk.confirmed;
            let held = whose.is_some() && chunk.holder == whose;
            if alone && !self.checks.is_disputed(n) {
                self.change(n, |chunk| *chunk = super::job::Chunk::default(), now.at);
            } else if held {
                self.change(n, |chunk| chunk.holder = None, now.at);
            }
        }
        self.change_row(|row| {
            row.generation += 1;
            // Those who are to keep it must hear that there is something else to fetch.
            row.shelf = if row.shelf == super::row::Shelf::Assigned { super::row::Shelf::No } else { row.shelf };
        });
    }

    /// An asker found another SHA-256 of the whole: everything is compared, once.
    pub(crate) fn examine(&mut self, now: Moment) {
        // What stands in the catalogue was read back, as a whole, by those who hold it.
        if !self.is_open() || self.row.examined || self.row.shelf >= super::row::Shelf::Published {
            return;
        }
        self.change_row(|row| (row.examined, row.examining) = (true, true));
        self.checks.exam = self.uncompared();
        self.checks.since = Some(now.at);
        tracing::warn!(job = %self.row.id, "an asker found another SHA-256: every chunk is compared");
        self.follow(Effect::Hint);
        self.settle(now);
    }

    /// What time does to checks: nobody waits for ever for somebody to make them.
    pub(crate) fn pass_checks(&mut self, now: Moment) {
        let idle: Vec<u32> = self
            .checks
            .disputes
            .iter()
            .filter(|(n, dispute)| {
                let party = |seat| dispute.claims.iter().any(|(claimant, ..)| *claimant == Some(seat));
                !dispute.judging && !self.checking(**n) && !self.another_than(party, now.at)
            })
            .map(|(n, _)| *n)
            .collect();
        idle.into_iter().for_each(|n| self.ask_here(n));
        let waited = self.checks.since.is_some_and(|since| now.at.saturating_duration_since(since) >= PATIENCE);
        if self.row.examining {
            let over = self.checks.exam.is_empty() && !self.checks.has_disputes();
            let stuck = waited && !self.leases.values().any(|lease| lease.purpose == Purpose::Check);
            if over || stuck {
                self.change_row(|row| row.examining = false);
                self.finish(JobState::Failed, Reason::WrongDigest, now);
            }
        } else if waited && self.row.state == JobState::Checking {
            self.checks.waived = true;
        }
        self.settle(now);
    }
}
