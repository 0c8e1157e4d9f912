//! The server as a value: `build`, `local_addr`, `run`. The same three calls serve production, tests and the local mode.

use std::{
    fs::{File, TryLockError},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use anyhow::{Context as _, bail};
use bus::EventBus;
use jiff::Timestamp;
use lifecycle::{Shutdown, Tasks, listen, private_file};
use secrecy::SecretString;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use wire::server::ServerInfo;

use crate::{
    config::Config,
    grants::{self, Committer, Grants},
    janitor,
    jobs::{self, Jobs, asking::Asking, driver::Driver},
    metrics::Metrics,
    notices,
    passwords::Passwords,
    probe::Probe,
    registry::Registry,
    relay,
    replication::{links::Costs, planner, planner::Inbox, pulls::Pulls},
    routes,
    store::Store,
    tally::{self, Tally},
    throttle::{self, Throttle},
};

/// One server per folder: two would each know only half of the leases.
pub(crate) fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let context = || format!("cannot use {}", path.display());
    let file = File::options().create(true).write(true).truncate(false).open(&path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another info-server runs on {}: stop it, or choose another folder with --data", data.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(context),
    }
}

/// What every route can reach.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) grants: Grants,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: Throttle,
    pub(crate) tally: Tally,
    pub(crate) join_secret: SecretString,
    pub(crate) probe: Probe,
    /// Told of every replica report, for commits that wait for a quorum.
    pub(crate) reported: Notify,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) shutdown: Shutdown,
    pub(crate) costs: Costs,
    pub(crate) metrics: Metrics,
    pub(crate) planner: Inbox,
    pub(crate) jobs: Jobs,
    pulls: Mutex<Pulls>,
    /// Held while a registration is stored.
    pub(crate) registering: tokio::sync::Mutex<()>,
    registry: RwLock<Registry>,
}

impl State {
    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        // A panic while it was held cannot leave it half changed: every change is one insertion.
        self.registry.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn pulls(&self) -> MutexGuard<'_, Pulls> {
        self.pulls.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The servers that clients may be sent to.
    pub(crate) fn live(&self) -> Vec<ServerInfo> {
        self.registry().live(Instant::now()).collect()
    }
}

/// The newest committed event, for those who wait for one.
#[derive(Debug, Clone)]
pub struct Log {
    /// Of all streams.
    newest: watch::Sender<u64>,
    /// Of the stream for all servers, some moments later.
    for_all: watch::Sender<u64>,
}

impl Log {
    /// A log in which nothing was committed yet.
    pub(crate) fn new() -> Self {
        Self { newest: watch::Sender::new(0), for_all: watch::Sender::new(0) }
    }

    /// Wakes whoever waits; to be called after the commit.
    pub fn committed(&self, seq: u64) {
        raise(&self.newest, seq);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The stream for all servers reaches so far.
    pub(crate) fn reaches(&self, seq: u64) {
        raise(&self.for_all, seq);
    }

    /// How far the stream for all servers reaches.
    pub(crate) fn for_all(&self) -> watch::Receiver<u64> {
        self.for_all.subscribe()
    }
}

fn raise(newest: &watch::Sender<u64>, seq: u64) {
    newest.send_if_modified(|newest| {
        let newer = seq > *newest;
        *newest = seq.max(*newest);
        newer
    });
}

/// A server that listens and is ready to run.
#[derive(Debug)]
pub struct App {
    /// Held for as long as this server lives.
    lock: File,
    state: State,
    committer: Committer,
    jobs: jobs::Inbox,
    listener: TcpListener,
}

impl App {
    /// Opens the database, then the port.
    ///
    /// # Errors
    /// Settings that contradict each other, an unusable database, a port in use.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let data = &config.place.data;
        private_file::make_folder(data).with_context(|| format!("cannot make the folder {}", data.display()))?;
        let lock = lock(data)?;
        let bus = relay::bus(config.events.broker()?)?;
        let store = Store::open(&config.database()).await?;
        let registry = RwLock::new(Registry::restore(store.enrolled().await?, Instant::now()));
        let log = Log::new();
        let (grants, committer) = grants::channel(store.clone(), log.clone());
        let join_secret = config.join_secret()?;
        let listener = listen::bind(config.place.listen).await?;
        config.note_changes(&store).await?;
        let asking = Asking::new(&config.jobs.reach, (config.jobs.job_min_size, config.jobs.job_max_size))?;
        let (jobs, jobs_inbox) = jobs::channel(asking);
        let throttle = Throttle::new();
        // Whoever guesses right after a start must not lock out those who were here before.
        for (account, address) in store.present(Timestamp::now(), throttle::KEYS).await? {
            throttle.know(&account, address);
        }
        let state = State {
            jobs,
            join_secret,
            passwords: Passwords::new().await?,
            throttle,
            tally: Tally::default(),
            probe: Probe::new()?,
            reported: Notify::new(),
            shutdown: Shutdown::new(),
            metrics: Metrics::new(grants.issued()),
            bus,
            planner: Inbox::default(),
            pulls: Mutex::new(Pulls::new(config.replication.zone_link.clone())),
            costs: Costs::new(config.replication.zone_cost.clone()),
            config,
            store,
            log,
            grants,
            registering: tokio::sync::Mutex::default(),
            registry,
        };
        Ok(Self { lock, state, committer, jobs: jobs_inbox, listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The catalogue, for the terminal and the local mode.
    pub fn store(&self) -> &Store {
        &self.state.store
    }

    /// The secret that file servers enrol with.
    pub fn join_secret(&self) -> &SecretString {
        &self.state.join_secret
    }

    /// Serves until `shutdown` says so.
    ///
    /// # Errors
    /// When something that must run cannot go on.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { lock, mut state, committer, jobs, listener } = self;
        state.shutdown = shutdown.clone();
        let state = Arc::new(state);
        let limits = state.config.peers.limits(state.config.place.max_connections, 0);
        let stop = shutdown.finishing().clone();
        let driver = Driver::start(state.clone(), jobs).await?;
        let mut tasks = Tasks::new();
        tasks.spawn("relay", relay::run(state.clone(), stop.clone()));
        tasks.spawn("notices", notices::run(state.clone(), stop.clone()));
        tasks.spawn("planner", planner::run(state.clone(), stop.clone()));
        tasks.spawn("janitor", janitor::run(state.clone(), stop.clone()));
        tasks.spawn("tally", tally::run(state.clone(), stop.clone()));
        let served = listen::serve(listener, routes::router(state.clone()), limits, shutdown.clone());
        // One task: commits go on for exactly as long as a request may wait for one.
        tasks.spawn("http", async move {
            tokio::select! {
                served = served => served,
                ended = committer.run() => ended,
                ended = driver.run() => ended,
            }
        });
        tracing::info!("ready");
        let outcome = tasks.run(&shutdown).await;
        state.store.close().await;
        drop(lock);
        outcome
    }
}
