//! All jobs. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wire::{
    Digest, FileId, FileName, JobId, Layout, Runs, ServerId,
    job::{Checked, Claimed, JobState, Lease as LeaseInfo, LeaseReport, NewJob, Reason, Span, Validator},
};

use super::{
    askers::Who,
    asking::Answer,
    effects::Effect,
    job::{Job, Moment},
    lease::LEASE,
    origins::Origins,
    report::Told,
    row::{Content, Row, Saved, Shelf},
    ticks::{Alive, Terms},
};
use crate::store::audit::Deed;

/// Jobs at once.
const MOST: usize = 512;
/// Jobs remembered that are over; beyond it the oldest are forgotten early.
const REMEMBERED: usize = 128;
/// When to ask again for work: shortest and longest time, in milliseconds.
const AGAIN: (u32, u32) = (200, 1000);
/// Earlier attempts that a job names.
const FORMERLY: usize = 8;

/// What the origin was found to have.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: FileName,
    pub(crate) size: u64,
    pub(crate) validator: Validator,
    /// What the origin says its SHA-256 is.
    pub(crate) sha256: Option<Digest>,
    /// Scheme, host and port of whoever answered, redirects and all.
    pub(crate) origin: String,
}

/// Why somebody cannot have one more job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The account takes part in as many as it may.
    Account,
    /// There are too many altogether.
    Everybody,
    /// The account asks for this one by as many processes as it may.
    Askers,
}

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Claim {
    /// This is to be done, or nothing at the moment.
    Work(Box<Claimed>),
    /// There will be nothing any more.
    Over(Option<Reason>),
    /// The server's zone may not work on it.
    NotAdmitted,
}

/// All jobs.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    origins: Origins,
    terms: Terms,
    per_user: usize,
    /// Reports and claims under a lease that was over.
    pub(crate) stale: u64,
    pub(crate) origin_bytes: u64,
    pub(crate) convicted: u64,
}

impl Board {
    pub(crate) fn new(terms: Terms, origin_connections: u32, per_user: usize) -> Self {
        let (jobs, origins) = (BTreeMap::new(), Origins::new(origin_connections));
        Self { jobs, origins, terms, per_user, stale: 0, origin_bytes: 0, convicted: 0 }
    }

    /// Takes in a job as it stood in the database.
    pub(crate) fn restore(&mut self, saved: Saved, row: Row, seed: u64, now: Moment) {
        self.jobs.insert(row.id, Job::read(saved, row, seed, now));
    }

    /// The job that somebody who asks for this joins, if there is one.
    pub(crate) fn joinable(&self, new: &NewJob, now: Moment) -> Option<JobId> {
        let later = new.start_at.is_some_and(|start_at| start_at > now.wall);
        let fits = |job: &&Job| {
            let row = &job.row;
            let in_time = match row.state {
                JobState::Scheduled => later && new.start_at == Some(row.start_at),
                JobState::Running | JobState::Checking | JobState::Done => !later,
                JobState::Direct | JobState::Failed | JobState::Stopped => false,
            };
            let expected = row.found.or(row.expected.map(|(sha256, _)| sha256));
            in_time
                && row.url == new.url
                && (new.sha256.is_none() || new.sha256 == expected)
                && (new.zones.is_none() || new.zones == row.zones)
        };
        self.jobs.values().rev().find(fits).map(Job::id)
    }

    /// Whether somebody may have one more job.
    pub(crate) fn room(&self, user: i64) -> Result<(), NoRoom> {
        let counts = |job: &&Job| {
            let row = &job.row;
            let open = matches!(row.state, JobState::Scheduled) || job.is_open();
            open && job.holds(user)
        };
        if self.jobs.values().filter(counts).count() >= self.per_user {
            return Err(NoRoom::Account);
        }
        let open = self.jobs.values().filter(|job| job.is_open() || job.row.state == JobState::Scheduled).count();
        if open >= MOST { Err(NoRoom::Everybody) } else { Ok(()) }
    }

    /// Adds a job: scheduled when nothing was `found` yet.
    pub(crate) fn create(&mut self, new: NewJob, found: Option<Found>, (who, seed): (Who, u64), now: Moment) -> JobId {
        let id = JobId::new();
        let named = new.name.is_some();
        let row = Row {
            id,
            name: new.name.unwrap_or_else(|| new.url.file_name()),
            named,
            url: new.url,
            state: JobState::Scheduled,
            reason: None,
            content: None,
            formerly: Vec::new(),
            expected: new.sha256.map(|sha256| (sha256, Checked::Sha256)),
            found: None,
            generation: 0,
            connections: new.connections.unwrap_or(1),
            start_at: new.start_at.unwrap_or(now.wall).max(now.wall),
            created_at: now.wall,
            over_at: None,
            keep: new.keep,
            expires_at: None,
            zones: new.zones,
            owner: who.user,
            fence: 0,
            wasted: 0,
            shelf: Shelf::No,
            examined: false,
            examining: false,
            trying: None,
        };
        self.jobs.insert(id, Job::new(row, seed, now));
        if let Some(job) = self.jobs.get_mut(&id) {
            // Nobody else asks for it yet.
            let _ = job.join(who, false, now);
        }
        if let Some(found) = found {
            self.begin(id, found, seed, now);
        }
        self.forget_oldest();
        id
    }

    /// The origin was asked: work begins.
    pub(crate) fn begin(&mut self, id: JobId, found: Found, seed: u64, now: Moment) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.row.state == JobState::Scheduled) else { return };
        let Ok(layout) = Layout::of(found.size) else { return };
        let earlier = self.earlier(job, &found);
        let mut row = job.row.clone();
        let (size, chunk_size) = (found.size, layout.chunk_size());
        row.content = Some(Content {
            file: FileId::new(),
            size,
            chunk_size,
            validator: found.validator,
            origin: Some(found.origin),
        });
        if !row.named {
            row.name = found.name;
        }
        row.expected = row.expected.or_else(|| found.sha256.map(|sha256| (sha256, Checked::Origin)));
        (row.state, row.start_at, row.trying) = (JobState::Running, row.start_at.min(now.wall), None);
        let mut digests = Vec::new();
        if let Some(earlier) = earlier.and_then(|earlier| self.jobs.get(&earlier)) {
            row.formerly = earlier.row.formerly.clone();
            row.formerly.extend(earlier.row.content.as_ref().map(|content| content.file));
            let surplus = row.formerly.len().saturating_sub(FORMERLY);
            row.formerly.drain(..surplus);
            digests = earlier.chunks.iter().map(|chunk| chunk.digest).collect();
        }
        let askers = self.jobs.get_mut(&id).map(|job| std::mem::take(&mut job.askers)).unwrap_or_default();
        let mut job = Job::new(row, seed, now);
        for (who, mut asker) in askers {
            asker.heard = now.at;
            job.askers.insert(who, asker);
            job.note_asker(who);
        }
        for (n, digest) in (0_u32..).zip(digests) {
            if digest.is_some() {
                job.change(n, |chunk| chunk.digest = digest, now.at);
            }
        }
        job.follow(Effect::AddFile);
        job.hinted = Some(now.at);
        job.follow(Effect::Hint);
        job.refresh_all(now.at);
        job.settle(now);
        self.jobs.insert(id, job);
    }

    /// An earlier attempt at the very same content by somebody who asks again.
    fn earlier(&self, job: &Job, found: &Found) -> Option<JobId> {
        let same = |earlier: &&Job| {
            let row = &earlier.row;
            let unspoilt = !matches!(row.reason, Some(Reason::Changed | Reason::WrongDigest));
            let content = row.content.as_ref();
            matches!(row.state, JobState::Failed | JobState::Stopped)
                && unspoilt
                && row.url == job.row.url
                && found.validator != Validator::None
                && content.is_some_and(|it| it.size == found.size && it.validator == found.validator)
                && job.askers.keys().any(|who| earlier.knows(who.user) || row.owner == who.user)
        };
        self.jobs.values().rev().find(same).map(Job::id)
    }

    /// A worker asks for something to do, and may say what it `held` so far.
    pub(crate) fn claim(
        &mut self,
        id: JobId,
        (server, Alive { zone, instance }): (&ServerId, &Alive),
        held: Option<&Runs>,
        now: Moment,
    ) -> Option<Claim> {
        let job = self.jobs.get_mut(&id)?;
        if !job.admits(zone) {
            return Some(Claim::NotAdmitted);
        }
        if let Some(seat) = job.seat_of(server) {
            held.into_iter().for_each(|held| job.holds_only(seat, held, now));
        }
        if let Some(worker) = job.workers.iter_mut().find(|worker| worker.server == *server) {
            worker.told_by = Some(*instance);
        }
        if !matches!(job.row.state, JobState::Running | JobState::Checking) {
            return Some(Claim::Over(job.row.reason));
        }
        let seat = job.seat(server);
        if let Some(worker) = job.workers.get_mut(seat) {
            if worker.excluded {
                return Some(Claim::Over(Some(Reason::WorkersFailed)));
            }
            if !worker.live || worker.zone.as_ref() != Some(zone) {
                (worker.live, worker.zone) = (true, Some(zone.clone()));
                worker.told_by = Some(*instance);
                job.refresh_all(now.at);
            }
        }
        // Both whom it asks and who gives in the end are to be left in peace.
        let origins = job.row.origins();
        let room = |origin: &String| self.origins.cap(origin, now.at).saturating_sub(self.used(origin));
        let room = origins.iter().map(room).min().unwrap_or(0);
        let pause = origins.iter().filter_map(|origin| self.origins.pause(origin, now.at)).max();
        let job = self.jobs.get_mut(&id)?;
        let fence = job.claim(seat, room, now);
        let lease = fence.and_then(|fence| lease_info(job, fence));
        let again = pause.map_or(AGAIN.0, |pause| u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
        Some(Claim::Work(Box::new(Claimed { lease, again_ms: again.clamp(AGAIN.0, AGAIN.1) })))
    }

    /// Connections of all live leases at an origin.
    fn used(&self, origin: &str) -> u32 {
        let at =
            self.jobs.values().filter(|job| !job.leases.is_empty() && job.row.origins().iter().any(|of| of == origin));
        at.flat_map(|job| job.leases.values()).map(|lease| u32::from(lease.connections)).sum()
    }

    /// A worker tells of a lease; none when there is no such job, and why it is over when it is.
    pub(crate) fn report(
        &mut self,
        id: JobId,
        (server, fence): (&ServerId, u64),
        report: &LeaseReport,
        now: Moment,
    ) -> Option<Result<Told, Option<Reason>>> {
        let job = self.jobs.get_mut(&id)?;
        if !matches!(job.row.state, JobState::Running | JobState::Checking) {
            return Some(Err(job.row.reason));
        }
        let Some(seat) = job.seat_of(server) else { return Some(Ok(Told::Stale)) };
        let (told, bytes) = job.report(seat, fence, report, now);
        // Who refused is not told: whom the URL names is who can be blamed, and not somebody whom a redirect names.
        let origin = job.row.url.origin();
        self.origin_bytes = self.origin_bytes.saturating_add(bytes);
        match (&told, &report.failed) {
            (Told::Stale, _) => self.stale += 1,
            (_, Some(failure)) if failure.reason == Reason::Busy => {
                let asked = failure.retry_after_s.map(|seconds| Duration::from_secs(seconds.into()));
                self.origins.refuse(&origin, asked, now.at);
            }
            _ if !report.chunks.is_empty() => self.origins.content(&origin, now.at),
            _ => {}
        }
        Some(Ok(told))
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, live: &BTreeMap<ServerId, Alive>, now: Moment) {
        let worked_on: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| !job.leases.is_empty()).map(|(id, _)| *id).collect();
        for (id, job) in &mut self.jobs {
            let crowded = worked_on.iter().any(|other| other != id);
            job.tick(live, (crowded, &self.terms), now);
        }
        let origins: BTreeSet<String> =
            self.jobs.values().filter(|job| job.is_open()).map(|job| job.row.url.origin()).collect();
        self.origins.keep(|origin| origins.contains(origin), now.at);
    }

    /// Keeps the memory of what is over within its bound.
    fn forget_oldest(&mut self) {
        let dead = |job: &&mut Job| job.row.state.is_dead();
        let surplus = self.jobs.values_mut().filter(dead).count().saturating_sub(REMEMBERED);
        self.jobs.values_mut().filter(dead).take(surplus).for_each(|job| job.follow(Effect::Forget));
    }

    /// What is to be stored and done, of all jobs.
    pub(crate) fn take(&mut self) -> Vec<(JobId, Option<Saved>, Vec<Effect>)> {
        let mut taken = Vec::new();
        for (id, job) in &mut self.jobs {
            let (saved, effects) = job.take();
            if saved.is_some() || !effects.is_empty() {
                taken.push((*id, saved, effects));
            }
        }
        for (id, _, effects) in &taken {
            if effects.iter().any(|effect| matches!(effect, Effect::Forget)) {
                self.jobs.remove(id);
            }
            self.convicted += effects.iter().filter(|effect| matches!(effect, Effect::Convict(_))).count() as u64;
        }
        taken
    }

    /// Whether time changes anything soon.
    pub(crate) fn is_busy(&self) -> bool {
        self.jobs.values().any(Job::is_open)
    }
}

/// What a worker is told of a lease.
fn lease_info(job: &Job, fence: u64) -> Option<LeaseInfo> {
    let lease = job.leases.get(&fence)?;
    let content = job.row.content.as_ref()?;
    Some(LeaseInfo {
        fence,
        span: Span::try_from([lease.granted.start, lease.end]).ok()?,
        purpose: lease.purpose,
        file: content.file,
        size: content.size,
        chunk_size: content.chunk_size,
        url: job.row.url.clone(),
        validator: content.validator.clone(),
        connections: lease.connections,
        lease_s: u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX),
    })
}

impl Board {
    /// The origin was asked, for the first time or because somebody said that the content changed.
    pub(crate) fn probed(&mut self, id: JobId, answer: Answer, seed: u64, now: Moment) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.probing = false;
        if job.row.state == JobState::Scheduled {
            match answer {
                Answer::Parts(found) if contradicts(&job.row, &found) => {
                    job.finish(JobState::Failed, Reason::WrongDigest, now);
                }
                Answer::Parts(found) => self.begin(id, found, seed, now),
                Answer::Alone(reason, _) => job.finish(JobState::Direct, reason, now),
                Answer::No(reason) => job.try_again(reason, now),
            }
            return;
        }
        job.doubt = None;
        let changed = match (&answer, &job.row.content) {
            (Answer::Parts(found), Some(content)) => {
                (found.size, &found.validator) != (content.size, &content.validator)
            }
            (Answer::Alone(..), _) => true,
            (Answer::No(reason), _) => *reason == Reason::TooLarge,
            (Answer::Parts(_), None) => false,
        };
        if changed && job.is_open() {
            job.finish(JobState::Failed, Reason::Changed, now);
        }
    }

    /// A holder of all of a job's file read it back from its own disk.
    pub(crate) fn read_back(&mut self, id: JobId, (root, sha256): (Digest, Digest), now: Moment) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.read_back(root, sha256, now);
        }
    }

    /// A kept result is removed.
    pub(crate) fn remove(&mut self, id: JobId, deed: Deed, now: Moment) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.finish(JobState::Stopped, Reason::Unwanted, now);
            job.follow(Effect::Record(deed));
        }
    }

    /// Goes on counting where another one ended.
    pub(crate) const fn inherit(&mut self, before: &Self) {
        (self.stale, self.origin_bytes, self.convicted) = (before.stale, before.origin_bytes, before.convicted);
    }
}

/// Whether the origin says that it has other content than was asked for.
pub(crate) fn contradicts(row: &Row, found: &Found) -> bool {
    let expected = row.expected.map(|(sha256, _)| sha256);
    expected.is_some() && found.sha256.is_some() && expected != found.sha256
}
