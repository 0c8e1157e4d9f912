//! The server as a whole: `build`, `local_addr`, `run`. The same three calls serve production, tests and the local mode.
//! They return boxed futures, so that what they await is compiled once, in this crate, and not again in each of those. Tasks and
//! routes are imported here alone.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bus::{Amqp, EventBus, LongPoll, Subscription};
use chunk_store::{BlobDirectory, BlobStore, CommitQueue, Sendfile, StoreOptions, run_blocking};
use futures::{FutureExt as _, future::BoxFuture};
use http_front::acceptor::{self, ListenerService};
use info_client::{FileServerClient, server_client_builder};
use jiff::Timestamp;
use lifecycle::{Shutdown, Tasks};
use origin::{AddressPolicy, Origins};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;
use transfer::{rate_limiter::RateLimiter, source::client_builder};
use url::Url;
use wire::ServerId;

use crate::{
    PublicUrl, ScrubTrigger,
    catalogue_sync::{rebuild::record_stored_files, reconcile::run_reconciliation},
    config::{Config, DATABASE_FILE_NAME, LastStart, data_folder},
    content::active_responses::ActiveResponses,
    db::damage::DamageNotes,
    events::{consumer::EventConsumer, log::InfoEventLog, revocation_watch::watch_revocations},
    http::{ReadyContent, router},
    integrity::{reported_chunks::verify_reported_chunks, scrub::Scrubber},
    metrics::Metrics,
    replication::replicator::Replicator,
    slots::{self, DataFolder},
    state::AppState,
    tokens::{pruning::prune_tokens, token_cache::TokenCache},
    upstream::{
        advertised_address::AdvertisedAddress, clock::Clock, identity::Identity, registration::Registration,
        reports::Reporter,
    },
    url_fetch::{fetcher::UrlFetcher, hints::JobHints},
};

/// Name of this program in its requests to other servers.
const USER_AGENT: &str = concat!("ddm-file-server/", env!("CARGO_PKG_VERSION"));
/// Time after which the messages of the broker are read without a registration: the info-server does not answer.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(2);

/// A file server that listens and does not serve yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<AppState>,
    commits: CommitQueue,
    registration: Registration,
    consumer: Arc<EventConsumer>,
    has_broker: bool,
    scrub_trigger: ScrubTrigger,
    origins: Origins,
    /// Client of the file servers that replicas are fetched from.
    source_client: reqwest::Client,
}

impl App {
    /// Locks the data folder, brings it in order and binds the port.
    ///
    /// # Errors
    /// With the reason and what to do about it; the port is free then.
    pub fn build(config: Config) -> BoxFuture<'static, anyhow::Result<Self>> {
        Self::open(config).boxed()
    }

    async fn open(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let join_secret = config.upstream.join_secret().await?;
        let broker = config.upstream.broker()?;
        let origins = Origins::new(&config.reach, AddressPolicy::PublicOnly)?;
        let has_broker = broker.is_some();
        let http = config.upstream.build_client(server_client_builder().user_agent(USER_AGENT))?;
        let source_client = config.upstream.build_client(client_builder().user_agent(USER_AGENT))?;
        let (state, commits) = open_state(&config, http, broker).await?;
        let state = Arc::new(state);
        let listener = acceptor::bind(config.listen.listen).await?;
        let address = listener.local_addr()?;
        let advertised = match config.listen.public_url.clone() {
            Some(PublicUrl::Named(url)) => AdvertisedAddress::Fixed(url),
            Some(PublicUrl::Auto) => {
                AdvertisedAddress::Towards { info: config.upstream.info.clone(), port: address.port() }
            }
            None => AdvertisedAddress::Fixed(Url::parse(&format!("http://{address}"))?),
        };
        let consumer = Arc::new(EventConsumer::new(state.clone()));
        let registration = Registration {
            state: state.clone(),
            consumer: consumer.clone(),
            advertised,
            join_secret,
            weight: config.replication.weight,
        };
        Ok(Self {
            config,
            listener,
            address,
            state,
            commits,
            registration,
            consumer,
            has_broker,
            scrub_trigger: ScrubTrigger::default(),
            origins,
            source_client,
        })
    }

    /// Returns the address on which the server listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the server's id.
    pub fn id(&self) -> &ServerId {
        &self.state.identity.id
    }

    /// Returns the trigger that starts a verification of everything stored.
    pub fn scrub_trigger(&self) -> ScrubTrigger {
        self.scrub_trigger.clone()
    }

    pub(crate) fn state(&self) -> Arc<AppState> {
        self.state.clone()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When a task ended that should have run until `shutdown`.
    pub fn run(self, shutdown: Shutdown) -> BoxFuture<'static, anyhow::Result<()>> {
        self.serve(shutdown).boxed()
    }

    async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config,
            listener,
            address,
            state,
            commits,
            registration,
            consumer,
            has_broker,
            scrub_trigger,
            origins,
            source_client,
        } = self;
        tracing::info!(server = %state.identity.id, zone = %state.zone, %address, "File server {} is listening on {address}", state.identity.id);
        let limits = config.peers.limits(config.limits.max_connections, config.limits.open_files);
        let mut tasks = Tasks::new();
        // Cancelled once no request is left: until then chunks may still be waiting for their sync.
        let drained = CancellationToken::new();
        tasks.spawn("commits", state.blobs.clone().run_commits(commits, drained.clone()));
        let service = ListenerService {
            transport: Sendfile::new(config.limits.max_rate),
            router: router(state.clone()),
            ready: ReadyContent::new(state.clone()),
        };
        let serving = acceptor::serve_with(service, listener, limits, shutdown.clone());
        tasks.spawn("listener", async move {
            let _drained = drained.drop_guard();
            serving.await
        });
        tasks.spawn("database", watch_database(state.clone(), shutdown.clone()));
        tasks.spawn("rebuild", record_stored_files(state.clone(), shutdown.clone()));
        tasks.spawn("drain", drain(state.clone(), shutdown.clone()));
        tasks.spawn("heartbeat", registration.run(shutdown.clone()));
        if has_broker {
            tasks.spawn("catch-up", consumer.clone().run_catch_up(shutdown.clone()));
            tasks.spawn("revocation-watch", watch_revocations(state.clone(), consumer.clone(), shutdown.clone()));
        }
        tasks.spawn("events", consume_events(state.clone(), consumer, has_broker, shutdown.clone()));
        tasks.spawn("reports", Reporter::new(state.clone()).run(shutdown.clone()));
        tasks.spawn("reconciliation", run_reconciliation(state.clone(), shutdown.clone()));
        tasks.spawn("removals", state.blobs.clone().retry_removals(shutdown.clone()));
        tasks.spawn("read-back", state.blobs.clone().read_back_files(shutdown.clone()));
        tasks.spawn("pruning", prune_tokens(state.clone(), config.limits.tokens, shutdown.clone()));
        tasks.spawn("volume", state.blobs.volume().clone().monitor(shutdown.clone()));
        let replicator = Replicator::new(state.clone(), source_client, config.replication.replications);
        tasks.spawn("replication", replicator.run(shutdown.clone()));
        let fetcher = UrlFetcher::new(state.clone(), origins, config.fetching.fetches);
        tasks.spawn("url-fetches", fetcher.run(shutdown.clone()));
        let scrubber = Scrubber::new(state.clone(), &config.replication, scrub_trigger);
        tasks.spawn("scrub", scrubber.run(shutdown.clone()));
        let rate = config.replication.scrub_rate;
        tasks.spawn("reported-chunks", verify_reported_chunks(state.clone(), rate, shutdown.clone()));
        let outcome = tasks.run(&shutdown).await;
        state.db.close().await;
        tracing::info!(server = %state.identity.id, "File server {} stopped", state.identity.id);
        outcome
    }
}

/// Opens the data folder and the database, and makes the handles.
async fn open_state(
    config: &Config,
    http: reqwest::Client,
    broker: Option<Amqp>,
) -> anyhow::Result<(AppState, CommitQueue)> {
    let DataFolder { data, directory } = lock_data_folder(config).await?;
    if directory.release_ballast_if_full()? {
        tracing::warn!("The volume is full: starting with the space that was set aside for removals");
    }
    let is_first_start = Identity::read(&data)?.is_none();
    let identity = Identity::read_or_create(&data)?;
    LastStart::of(config).store(&data);
    let database = data.join(DATABASE_FILE_NAME);
    let notes = DamageNotes::new(&database);
    let db = notes.open(is_first_start).await.with_context(|| format!("cannot open {}", database.display()))?;
    db.raise_report_counter(Timestamp::now()).await?;
    let directory = directory.watch_files(&[DATABASE_FILE_NAME])?;
    let metrics = Arc::new(Metrics::default());
    let options = StoreOptions {
        metrics: metrics.store.clone(),
        max_open_blobs: config.limits.open_files,
        keep_unrecorded: notes.is_rebuilding(),
    };
    let (blobs, commits) = BlobStore::open(directory, Arc::new(db.clone()), options).await?;
    let (id, secret) = (identity.id.clone(), identity.secret.clone());
    let info = FileServerClient::new(config.upstream.info.clone(), http, id, secret);
    let bus: Arc<dyn EventBus> = match broker {
        Some(bus) => Arc::new(bus),
        None => Arc::new(LongPoll::follower(Arc::new(InfoEventLog(info.clone())))),
    };
    let state = AppState {
        damage_notes: notes,
        identity,
        zone: config.listen.zone.clone(),
        blobs,
        tokens: TokenCache::new(db.clone(), info.clone(), metrics.clone(), config.limits.token_cache),
        responses: Arc::new(ActiveResponses::new(config.limits.max_rate_per_client)),
        clock: Clock::new(db.high_water().await?, Timestamp::now(), Instant::now()),
        db,
        metrics,
        info,
        bus,
        rate_limiter: RateLimiter::default(),
        registered: watch::Sender::new(false),
        identity_conflict: watch::Sender::new(false),
        job_hints: JobHints::default(),
        open_questions: Notify::new(),
        draining: AtomicBool::new(false),
    };
    Ok((state, commits))
}

/// Locks the data folder, or the first free slot.
async fn lock_data_folder(config: &Config) -> anyhow::Result<DataFolder> {
    let (slots, data, partial) = (config.storage.slots.clone(), config.storage.data.clone(), config.partial_folder());
    let (reserve, init) = (config.storage.reserve, config.storage.init);
    let locked = run_blocking(move || {
        Ok(match slots {
            Some(slots) => slots::lock_first_free(&slots, init),
            None => BlobDirectory::create_and_lock(&data_folder(&data, init), &partial)
                .map(|directory| DataFolder { data, directory }),
        })
    })
    .await??;
    Ok(DataFolder { directory: locked.directory.with_reserve(reserve), ..locked })
}

/// Stops this server once its database turns out to be damaged: its next start sets the database aside.
async fn watch_database(state: Arc<AppState>, shutdown: Shutdown) -> anyhow::Result<()> {
    tokio::select! {
        damage = state.db.damaged() => {
            let notes = state.damage_notes.clone();
            run_blocking(move || notes.note_damage()).await.context("the damage of the database could not be noted")?;
            anyhow::bail!("the database is damaged; check the disk and start this server again: it makes a new database from what is stored ({damage})");
        }
        () = shutdown.finishing().cancelled() => Ok(()),
    }
}

async fn drain(state: Arc<AppState>, shutdown: Shutdown) -> anyhow::Result<()> {
    shutdown.finishing().cancelled().await;
    state.start_draining();
    Ok(())
}

/// Consumes events until `shutdown`, while no other process is the registered one.
async fn consume_events(
    state: Arc<AppState>,
    consumer: Arc<EventConsumer>,
    has_broker: bool,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let subscription = Subscription { server: state.identity.id.clone(), zone: state.zone.clone() };
    let (mut registered, mut conflict) = (state.registered.subscribe(), state.identity_conflict.subscribe());
    while !shutdown.finishing().is_cancelled() {
        // The log answers only registered servers, and of two processes with one identity only the registered one may take
        // messages from their queue.
        tokio::select! {
            ready = registered.wait_for(|registered| *registered) => drop(ready?),
            // While the info-server is away, the broker has revocations that must count now.
            () = tokio::time::sleep(REGISTRATION_TIMEOUT), if has_broker && !*state.identity_conflict.borrow() => {}
            () = shutdown.finishing().cancelled() => break,
        }
        let stop = shutdown.finishing().child_token();
        let subscribed = state.bus.subscribe(&subscription, consumer.as_ref(), &stop);
        let watched = async {
            let ended = conflict.wait_for(|conflict| *conflict).await.map(drop);
            stop.cancel();
            ended
        };
        tokio::pin!(subscribed);
        tokio::select! {
            ended = &mut subscribed => ended?,
            watched = watched => {
                watched?;
                subscribed.await?;
            }
        }
    }
    Ok(())
}
