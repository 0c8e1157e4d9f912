//! The task that owns all jobs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use wire::{Digest, JobId, ServerId, job::JobState};

use super::{
    Act, Inbox, Numbers,
    asking::Answer,
    board::Board,
    carry,
    job::{Job, Moment},
    lock,
    ticks::{Alive, Terms},
};
use crate::{app::State, store::servers::Enrolled};

/// Decisions in one transaction.
const BATCH: usize = 256;
/// Between two looks at the clock while something is fetched, and else.
const TICK: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_millis(500);
/// Between two tries to read the jobs back after a transaction failed.
const AGAIN: Duration = Duration::from_secs(1);

/// What an errand to an origin came to.
#[derive(Debug)]
pub(super) enum Errand {
    /// What the origin has now.
    Probed(JobId, Box<Answer>),
    /// What a chunk is.
    Judged(JobId, u32, Option<Digest>),
}

/// Owns all jobs.
#[derive(Debug)]
pub(crate) struct Driver {
    state: Arc<State>,
    inbox: Inbox,
    board: Board,
    errands: JoinSet<Errand>,
}

impl Driver {
    /// Reads the jobs back.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn start(state: Arc<State>, inbox: Inbox) -> anyhow::Result<Self> {
        let board = read_back(&state).await.context("the jobs cannot be read back")?;
        Ok(Self { state, inbox, board, errands: JoinSet::new() })
    }

    /// Decides for as long as somebody may ask.
    ///
    /// # Errors
    /// None: a transaction that fails is logged, its callers are told, and the jobs are read back.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut batch: Vec<Act> = Vec::with_capacity(BATCH);
        let mut next = Instant::now();
        loop {
            let mut errand = None;
            tokio::select! {
                count = self.inbox.0.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                Some(done) = self.errands.join_next(), if !self.errands.is_empty() => errand = done.ok(),
                () = sleep_until(next) => {}
            }
            let now = Moment::now();
            if let Some(errand) = errand {
                self.come_back(errand, now);
            }
            let answers: Vec<_> = batch.drain(..).map(|act| act(&mut self.board, now)).collect();
            if Instant::now() >= next {
                let live = live(&self.state);
                self.board.tick(&live, now);
                self.count();
                next = Instant::now() + if self.board.is_busy() { TICK } else { IDLE };
            }
            if self.store(now).await {
                answers.into_iter().for_each(|answer| answer());
            }
        }
    }

    /// Stores what was decided; false when that failed.
    async fn store(&mut self, now: Moment) -> bool {
        let taken = self.board.take();
        if taken.is_empty() {
            return true;
        }
        match carry::out(&self.state, &mut self.board, &taken, now).await {
            Ok(()) => {
                self.send_out(&taken);
                self.state.jobs.changed.send_modify(|version| *version += 1);
                true
            }
            Err(error) => {
                tracing::error!("what was decided about jobs cannot be stored: {error:#}");
                self.read_again().await;
                false
            }
        }
    }

    /// Goes back to what is on disk.
    async fn read_again(&mut self) {
        loop {
            match read_back(&self.state).await {
                Ok(board) => {
                    let before = std::mem::replace(&mut self.board, board);
                    self.board.inherit(&before);
                    return;
                }
                Err(error) => tracing::error!("the jobs cannot be read back for now: {error:#}"),
            }
            if self.state.shutdown.finishing().is_cancelled() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Errands of what was just stored.
    fn send_out(&mut self, taken: &[carry::Taken]) {
        for (id, _, effects) in taken {
            let Some(job) = self.board.jobs.get(id) else { continue };
            for effect in effects {
                self.errands.spawn(match effect {
                    super::effects::Effect::Probe => probe(self.state.clone(), job),
                    super::effects::Effect::Judge(n) => judge(self.state.clone(), job, *n),
                    _ => continue,
                });
            }
        }
    }

    fn come_back(&mut self, errand: Errand, now: Moment) {
        match errand {
            Errand::Probed(id, answer) => self.board.probed(id, *answer, rand::random(), now),
            Errand::Judged(id, n, digest) => {
                if let Some(job) = self.board.jobs.get_mut(&id) {
                    job.judge(n, digest, now);
                }
            }
        }
    }

    fn count(&self) {
        let mut states: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut leases = 0;
        for job in self.board.jobs.values() {
            *states.entry(job.row.state.as_str()).or_default() += 1;
            leases += i64::try_from(job.leases.len()).unwrap_or(i64::MAX);
        }
        let Board { stale, origin_bytes, convicted, .. } = self.board;
        *lock(&self.state.jobs.numbers) = Numbers { states, leases, stale, origin_bytes, convicted };
    }
}

type Running = std::pin::Pin<Box<dyn Future<Output = Errand> + Send>>;

fn probe(state: Arc<State>, job: &Job) -> Running {
    let (id, owner, url, known) = (job.id(), job.row.owner, job.row.url.clone(), job.row.expected.is_some());
    Box::pin(async move { Errand::Probed(id, Box::new(state.jobs.asking.probe(owner, &url, known).await)) })
}

fn judge(state: Arc<State>, job: &Job, n: u32) -> Running {
    let (id, owner, url) = (job.id(), job.row.owner, job.row.url.clone());
    let content = job.row.content.clone();
    Box::pin(async move {
        let digest = match content {
            Some(it) => state.jobs.asking.chunk((owner, &url), (it.size, it.chunk_size), it.validator, n).await,
            None => None,
        };
        Errand::Judged(id, n, digest)
    })
}

/// The servers whose lease runs.
pub(crate) fn live(state: &State) -> BTreeMap<ServerId, Alive> {
    let alive = |server: &Enrolled| Alive { zone: server.zone.clone(), instance: server.instance };
    state.registry().serving(std::time::Instant::now()).map(|server| (server.id.clone(), alive(server))).collect()
}

async fn read_back(state: &State) -> anyhow::Result<Board> {
    let jobs = &state.config.jobs;
    let terms = Terms { grace: jobs.asker_grace, memory: jobs.job_memory, keep_for: jobs.keep_for };
    let per_user = usize::try_from(jobs.jobs_per_user).unwrap_or(usize::MAX);
    let mut board = Board::new(terms, jobs.origin_connections, per_user);
    let now = Moment { at: std::time::Instant::now(), wall: Timestamp::now() };
    for (row, saved) in state.store.jobs().await? {
        board.restore(saved, row, rand::random(), now);
    }
    let open = board.jobs.values().filter(|job| job.is_open() || job.row.state == JobState::Scheduled).count();
    if open > 0 {
        tracing::info!(jobs = open, "jobs go on");
    }
    Ok(board)
}
