//! The task that owns all jobs: it decides, stores what was decided in one transaction, and then answers.
//!
//! Invariant: no caller receives an answer, and no request goes out, before the decision is on disk. A transaction that fails leaves
//! the jobs as they stand on disk; its callers receive an error.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use lifecycle::fault_log::FaultLog;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use wire::grammar::counted;

use super::{
    background::{self, BackgroundResult},
    commit,
    context::JobsContext,
    coordinator::{Coordinator, Decided, JobLimits},
    handle::{Decision, Inbox, JobNumbers, NotStored},
    live_servers::live_servers,
    model::{lease_table::stuck_after, moment::Moment, retention::Lifetimes},
};

static STORE_FAULTS: FaultLog = FaultLog::new("Decisions about jobs cannot be stored; reading the jobs back");
static READ_FAULTS: FaultLog = FaultLog::new("The jobs cannot be read from the database; trying again");

/// Decisions in one transaction at most.
const TRANSACTION_BATCH_SIZE: usize = 256;
/// Time between two looks at the clock while a job is open.
const BUSY_TICK: Duration = Duration::from_millis(100);
const IDLE_TICK: Duration = Duration::from_millis(500);
/// Time between two attempts to read the jobs back after a transaction failed.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The task that owns all jobs.
#[derive(Debug)]
pub(crate) struct JobsActor {
    context: Arc<JobsContext>,
    inbox: Inbox,
    coordinator: Coordinator,
    background: JoinSet<BackgroundResult>,
}

impl JobsActor {
    /// Reads the jobs back.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn start(context: Arc<JobsContext>, inbox: Inbox) -> anyhow::Result<Self> {
        let coordinator = load(&context).await.context("cannot read the jobs from the database")?;
        let open = coordinator.open_count();
        if open > 0 {
            tracing::info!(jobs = open, "Going on with {}", counted(open, "job"));
        }
        Ok(Self { context, inbox, coordinator, background: JoinSet::new() })
    }

    /// Decides until the handle is dropped.
    ///
    /// # Errors
    /// None: a transaction that fails is logged, its callers receive an error, and the jobs are read back.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut batch: Vec<Decision> = Vec::with_capacity(TRANSACTION_BATCH_SIZE);
        let mut next_tick = Instant::now();
        loop {
            let mut result = None;
            tokio::select! {
                count = self.inbox.0.recv_many(&mut batch, TRANSACTION_BATCH_SIZE) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                Some(done) = self.background.join_next(), if !self.background.is_empty() => result = done.ok(),
                () = sleep_until(next_tick) => {}
            }
            let now = Moment::now();
            if let Some(result) = result {
                self.take_in(result, now);
            }
            let answers: Vec<_> = batch.drain(..).map(|decide| decide(&mut self.coordinator, now)).collect();
            if Instant::now() >= next_tick {
                self.coordinator.tick(&live_servers(&self.context.fleet), now);
                self.publish_numbers();
                next_tick = Instant::now() + if self.coordinator.is_busy() { BUSY_TICK } else { IDLE_TICK };
            }
            let stored = self.store(now).await;
            answers.into_iter().for_each(|answer| answer(stored));
        }
    }

    /// Stores what was decided.
    async fn store(&mut self, now: Moment) -> Result<(), NotStored> {
        let decided = self.coordinator.take_decisions();
        if decided.is_empty() {
            return Ok(());
        }
        match commit::commit(&self.context, &mut self.coordinator, &decided, now).await {
            Ok(()) => {
                self.start_background_requests(&decided);
                self.context.handle.note_commit();
                Ok(())
            }
            Err(error) => {
                let fault = self.context.db.note_failure(&error);
                if fault.is_none() {
                    STORE_FAULTS.failed(format_args!("{error:#}"));
                }
                self.reload().await;
                Err(NotStored { fault })
            }
        }
    }

    /// Goes back to what is on disk.
    async fn reload(&mut self) {
        loop {
            match load(&self.context).await {
                Ok(coordinator) => {
                    let before = std::mem::replace(&mut self.coordinator, coordinator);
                    self.coordinator.inherit_counters(&before);
                    return;
                }
                Err(error) => READ_FAULTS.failed(format_args!("{error:#}")),
            }
            if self.context.shutdown.finishing().is_cancelled() {
                return;
            }
            tokio::time::sleep(RELOAD_INTERVAL).await;
        }
    }

    fn start_background_requests(&mut self, decided: &[Decided]) {
        for Decided { job, effects, .. } in decided {
            let Some(job) = self.coordinator.job(*job) else { continue };
            for request in effects.iter().filter_map(|effect| background::request_for(effect, &self.context, job)) {
                self.background.spawn(request);
            }
        }
    }

    fn take_in(&mut self, result: BackgroundResult, now: Moment) {
        match result {
            BackgroundResult::Probed { job, outcome } => {
                self.coordinator.note_probe(job, *outcome, rand::random(), now);
            }
            BackgroundResult::Fetched { job, n, digest } => {
                if let Some(job) = self.coordinator.job_mut(job) {
                    job.arbitrate(n, digest, now);
                }
            }
        }
    }

    fn publish_numbers(&self) {
        let mut states: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut leases = 0;
        for job in self.coordinator.jobs() {
            *states.entry(job.state().as_str()).or_default() += 1;
            leases += i64::try_from(job.leases().len()).unwrap_or(i64::MAX);
        }
        self.context.handle.set_numbers(JobNumbers { states, leases, counters: self.coordinator.counters() });
    }
}

async fn load(context: &JobsContext) -> anyhow::Result<Coordinator> {
    let settings = &context.settings;
    let lifetimes = Lifetimes {
        requester_grace: settings.requester_grace,
        ended_job: settings.job_memory,
        kept_result: settings.keep_for,
    };
    let mut coordinator = Coordinator::new(JobLimits {
        lifetimes,
        origin_connections: settings.origin_connections,
        stuck_after: stuck_after(settings.reach.limits()),
        jobs_per_account: usize::try_from(settings.jobs_per_user).unwrap_or(usize::MAX),
    });
    let now = Moment::now();
    for (record, saved) in context.db.jobs().await? {
        coordinator.restore(saved, record, rand::random(), now);
    }
    Ok(coordinator)
}
