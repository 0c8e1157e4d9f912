//! The server as a value: `build`, `local_addr`, `run`. The same three calls serve production, tests and the local mode.
//! They return boxed futures, so that what they await is compiled once, in this crate, and not again in each of those.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Instant,
};

use axum::Router;
use bus::{Amqp, EventBus, LongPoll};
use futures::{FutureExt as _, future::BoxFuture};
use http_front::acceptor;
use jiff::Timestamp;
use lifecycle::{
    Shutdown, Tasks,
    data_folder::FolderWatch,
    folder_lock::{FolderLock, LOCK_FILE_NAME},
};
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    accounts::{
        login_failures::LoginFailureBuffer,
        login_limiter::{self, LoginLimiter},
        passwords::Passwords,
        store::audit,
    },
    config::{CATALOGUE_FILE_NAME, Config},
    db::{Database, idempotency::KeysInUse},
    events::{broadcast_watch, log::EventLog, relay},
    fleet::{
        members::Fleet,
        registry::{self, Registry},
    },
    http::routes,
    jobs::{
        actor::JobsActor,
        context::JobsContext,
        handle::{self, Inbox},
        origin_probe::{JobSizes, OriginProbe},
    },
    maintenance::{audit_flush, garbage_collector, storage_watch},
    metrics::registry::Metrics,
    replication::{
        link_bandwidth::LinkBandwidth,
        planner::{self, Planner},
        planner_inbox::PlannerInbox,
        zone_costs::ZoneCosts,
    },
    state::State,
    tokens::group_commit::{self, Committer},
};

/// A server that listens and is ready to run.
#[derive(Debug)]
pub struct App {
    /// Held for as long as this server lives.
    lock: FolderLock,
    state: State,
    committer: Committer,
    jobs: Inbox,
    listener: TcpListener,
}

impl App {
    /// Opens the database, then the port.
    ///
    /// # Errors
    /// Settings that contradict each other, an unusable database, a port in use.
    pub fn build(config: Config) -> BoxFuture<'static, anyhow::Result<Self>> {
        Self::open(config).boxed()
    }

    async fn open(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        registry::check_repair_after(config.replication.repair_after)?;
        // Settings that cannot work are refused before anything is made on the disk.
        let sizes = JobSizes { min: config.jobs.job_min_size, max: config.jobs.job_max_size };
        let origin_probe = OriginProbe::new(&config.jobs.reach, sizes)?;
        let bus = event_bus(config.events.broker()?);
        let data = &config.storage.data;
        config.prepare_data_folder(config.storage.init)?;
        let lock = FolderLock::acquire(data)?;
        let db = Database::open(&config.database())
            .await?
            .watching(FolderWatch::new(data, &[LOCK_FILE_NAME, CATALOGUE_FILE_NAME])?);
        let registry = Registry::restore(db.enrolled().await?, Instant::now());
        let join_secret = config.join_secret()?;
        let listener = acceptor::bind(config.listen.listen).await?;
        audit::record_settings(&db, config.audited()).await?;
        let login_limiter = restored_login_limiter(&db).await?;
        let (jobs, jobs_inbox) = handle::channel(origin_probe);
        let log = EventLog::new();
        let (tokens, committer) = group_commit::channel(db.clone(), log.clone());
        let state = State {
            metrics: Metrics::new(tokens.issued()),
            log,
            bus,
            shutdown: Shutdown::new(),
            passwords: Passwords::new().await?,
            login_limiter,
            login_failures: LoginFailureBuffer::default(),
            join_secret,
            fleet: Arc::new(Fleet::new(registry)?),
            tokens,
            reported: Notify::new(),
            planner: Arc::new(PlannerInbox::default()),
            zone_costs: ZoneCosts::new(config.replication.zone_cost.clone()),
            link_bandwidth: Mutex::new(LinkBandwidth::new(config.replication.zone_link.clone())),
            jobs: Arc::new(jobs),
            keys_in_use: KeysInUse::default(),
            has_begun_epoch: AtomicBool::new(false),
            config,
            db,
        };
        Ok(Self { lock, state, committer, jobs: jobs_inbox, listener })
    }

    /// Returns the address that it listens on.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the catalogue's database, for the terminal and the local mode.
    pub fn database(&self) -> &Database {
        &self.state.db
    }

    /// Returns the secret that file servers enrol with.
    pub fn join_secret(&self) -> &SecretString {
        &self.state.join_secret
    }

    /// Serves until `shutdown` begins.
    ///
    /// # Errors
    /// When something that must run cannot go on.
    pub fn run(self, shutdown: Shutdown) -> BoxFuture<'static, anyhow::Result<()>> {
        self.serve(shutdown).boxed()
    }

    async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { lock, mut state, committer, jobs, listener } = self;
        state.shutdown = shutdown.clone();
        let state = Arc::new(state);
        let limits = state.config.peers.limits(state.config.listen.max_connections, 0);
        let stop = shutdown.finishing().clone();
        let commits = commits(&state, committer, jobs).await?;
        let mut tasks = Tasks::new();
        tasks.spawn("relay", relay::run(state.clone(), stop.clone()));
        tasks.spawn("broadcast-watch", broadcast_watch::run(state.clone(), stop.clone()));
        tasks.spawn("planner", planner::run(planner(&state), stop.clone()));
        tasks.spawn("garbage-collector", garbage_collector::run(state.clone(), stop.clone()));
        tasks.spawn("storage-watch", storage_watch::run(state.clone(), stop.clone()));
        tasks.spawn("audit-flush", audit_flush::run(state.clone(), stop.clone()));
        let served = acceptor::serve(listener, routes::router(state.clone()), limits, shutdown.clone());
        // One task: commits go on for exactly as long as a request may wait for one.
        tasks.spawn("http", async move {
            tokio::select! {
                served = served => served,
                ended = commits => ended,
            }
        });
        tracing::info!("ready");
        let outcome = tasks.run(&shutdown).await;
        state.db.close().await;
        drop(lock);
        outcome
    }

    /// Returns the router, and the work that its answers wait for: group commits of tokens and decisions about jobs. Tests call the
    /// router without a socket; no other task runs.
    ///
    /// # Errors
    /// When the jobs cannot be read.
    pub fn into_router(self) -> BoxFuture<'static, anyhow::Result<(Router, Commits)>> {
        let Self { lock, state, committer, jobs, listener } = self;
        async move {
            let state = Arc::new(state);
            let commits = commits(&state, committer, jobs).await?;
            let commits = async move {
                let _held = (lock, listener);
                commits.await
            };
            Ok((routes::router(state), commits.boxed()))
        }
        .boxed()
    }
}

/// Work that answers wait for.
pub type Commits = BoxFuture<'static, anyhow::Result<()>>;

async fn commits(state: &Arc<State>, committer: Committer, jobs: Inbox) -> anyhow::Result<Commits> {
    let jobs = JobsActor::start(jobs_context(state), jobs).await?;
    let commits = async move {
        tokio::select! {
            ended = committer.run() => ended,
            ended = jobs.run() => ended,
        }
    };
    Ok(commits.boxed())
}

/// Returns the handles of the task that owns all jobs.
fn jobs_context(state: &State) -> Arc<JobsContext> {
    Arc::new(JobsContext {
        settings: state.config.jobs.clone(),
        replication: state.config.replication.clone(),
        db: state.db.clone(),
        log: state.log.clone(),
        fleet: state.fleet.clone(),
        planner: state.planner.clone(),
        handle: state.jobs.clone(),
        shutdown: state.shutdown.clone(),
    })
}

/// Returns the handles of the planner.
fn planner(state: &State) -> Planner {
    Planner {
        db: state.db.clone(),
        fleet: state.fleet.clone(),
        log: state.log.clone(),
        inbox: state.planner.clone(),
        settings: state.config.replication.clone(),
    }
}

/// Makes the bus that the settings ask for.
fn event_bus(broker: Option<Amqp>) -> Arc<dyn EventBus> {
    match broker {
        None => Arc::new(LongPoll::publisher()),
        Some(broker) => Arc::new(broker),
    }
}

/// Makes the login limiter, to which accounts are familiar at the addresses that they have a session from: guesses right after a start must
/// not lock out their owners.
async fn restored_login_limiter(db: &Database) -> anyhow::Result<LoginLimiter> {
    let limiter = LoginLimiter::new();
    for (account, address) in db.familiar_addresses(Timestamp::now(), login_limiter::MAX_BUDGETS).await? {
        limiter.add_familiar(&account, address);
    }
    Ok(limiter)
}
