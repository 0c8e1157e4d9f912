//! The limit of jobs of one account, tried on every way by which an account takes part.

use wire::{RequesterId, job::RequesterProgress};

use super::*;
use crate::{
    accounts::audit::{AuditEntry, AuditKind},
    jobs::coordinator::{
        admission::{Admitted, NoRoom},
        queries::JobViewer,
        requests::{Caller, RequesterRefusal},
    },
};

const GRACE: Duration = Duration::from_secs(60);

/// A coordinator that allows each account one job.
struct OneJobEach {
    coordinator: Coordinator,
    now: Moment,
}

fn entry() -> AuditEntry {
    AuditEntry::new(AuditKind::JobCreated)
}

fn job_at(url: &str, start_at: Option<Timestamp>) -> NewJob {
    NewJob { url: url.parse().unwrap(), start_at, ..new_job(false) }
}

fn caller(requester: RequesterKey, viewer: JobViewer) -> Caller {
    Caller { requester, viewer }
}

impl OneJobEach {
    fn new() -> Self {
        let lifetimes = Lifetimes { requester_grace: GRACE, ..limits().lifetimes };
        let coordinator = Coordinator::new(JobLimits { lifetimes, jobs_per_account: 1, ..limits() });
        Self { coordinator, now: Moment { at: Instant::now(), wall: Timestamp::UNIX_EPOCH } }
    }

    fn ask(&mut self, requester: RequesterKey, new: NewJob) -> Result<Admitted, NoRoom> {
        let content = new.start_at.is_none().then(|| found(8 * MIB));
        self.coordinator.join_or_create(request(requester, new), content, entry(), self.now)
    }

    fn create(&mut self, requester: RequesterKey, new: NewJob) -> JobId {
        match self.ask(requester, new) {
            Ok(Admitted::Created(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Takes part by a stream, and by progress.
    fn take_part(&mut self, id: JobId, caller: Caller) -> [Result<(), RequesterRefusal>; 2] {
        let progress = RequesterProgress { runs: ChunkSet::new(), sha256: None };
        [self.coordinator.subscribe(id, caller, self.now), self.coordinator.progress(id, caller, progress, self.now)]
    }

    /// Lets the time pass after which all requesters are absent, but for one that joins just before.
    fn pass_grace_but_for(&mut self, requester: RequesterKey, id: JobId, new: NewJob) {
        self.now.at += GRACE / 2;
        assert_eq!(self.ask(requester, new), Ok(Admitted::Joined(id)));
        self.now.at += GRACE / 2;
        self.coordinator.tick(&LiveServers::new(), self.now);
    }
}

#[test]
fn an_account_at_its_limit_joins_no_job_that_others_scheduled_or_began() {
    let mut jobs = OneJobEach::new();
    let start_at = Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1));
    let later = job_at("https://example.org/later", start_at);
    let scheduled = jobs.create(OTHER, later.clone());
    let own = jobs.create(ME, job_at("https://example.org/own", None));
    assert_eq!(jobs.ask(ME, later.clone()), Err(NoRoom::Account));
    assert_eq!(jobs.ask(ME, job_at("https://example.org/second", start_at)), Err(NoRoom::Account));
    // Began while the origin was probed for the second request.
    let began = RequesterKey { user: 3, process: None };
    jobs.create(began, job_at("https://example.org/began", None));
    assert_eq!(jobs.ask(ME, job_at("https://example.org/began", None)), Err(NoRoom::Account));
    jobs.coordinator.leave(own, caller(ME, JobViewer::Account(ME.user)), entry(), jobs.now).unwrap();
    assert_eq!(jobs.ask(ME, later.clone()), Ok(Admitted::Joined(scheduled)));
    assert_eq!(jobs.ask(ME, later), Ok(Admitted::Joined(scheduled)), "it takes part already");
}

#[test]
fn an_account_that_was_absent_needs_room_to_come_back() {
    let mut jobs = OneJobEach::new();
    let shared = job_at("https://example.org/shared", None);
    let (id, me) = (jobs.create(ME, shared.clone()), caller(ME, JobViewer::Account(ME.user)));
    jobs.pass_grace_but_for(OTHER, id, shared);
    let own = jobs.create(ME, job_at("https://example.org/own", None));
    let other_process = Caller { requester: RequesterKey { process: Some(RequesterId::new()), ..ME }, ..me };
    for caller in [me, other_process] {
        assert_eq!(jobs.take_part(id, caller), [Err(RequesterRefusal::NoRoom(NoRoom::Account)); 2]);
    }
    jobs.coordinator.leave(own, me, entry(), jobs.now).unwrap();
    assert_eq!(jobs.take_part(id, me), [Ok(()); 2]);
}

#[test]
fn a_process_of_an_admin_needs_room_to_take_part_and_none_to_look() {
    let mut jobs = OneJobEach::new();
    let id = jobs.create(OTHER, job_at("https://example.org/foreign", None));
    jobs.create(ME, job_at("https://example.org/own", None));
    let process = RequesterKey { process: Some(RequesterId::new()), ..ME };
    let refused = jobs.take_part(id, caller(process, JobViewer::Admin));
    assert_eq!(refused, [Err(RequesterRefusal::NoRoom(NoRoom::Account)); 2]);
    assert_eq!(jobs.coordinator.subscribe(id, caller(ME, JobViewer::Admin), jobs.now), Ok(()));
}
