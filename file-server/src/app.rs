//! The server as a whole: `build`, `local_addr`, `run`. The same three calls serve production, tests and the local mode.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bus::{Amqp, EventBus, Outbox, Subscription};
use jiff::Timestamp;
use lifecycle::{Shutdown, Tasks, listen};
use origin::{Guard, Origins};
use secrecy::ExposeSecret as _;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;
use transfer::pace::Pace;
use url::Url;
use wire::ServerId;

use crate::{
    PublicUrl,
    address::Advertised,
    blobs::{Blobs, Folder, Queue, blocking},
    catchup::Follower,
    clock::Clock,
    config::Config,
    fetch::{Fetcher, Hints},
    identity::Identity,
    info::InfoServer,
    metrics::Metrics,
    notices, reconcile,
    registration::Registration,
    replicate::Replicator,
    reports::Reporter,
    routes::router,
    running::Running,
    scrub::Scrubber,
    sendfile::Sendfile,
    server::Server,
    slots,
    store::Store,
    tokens::Tokens,
    volume,
};

/// How often expired tokens are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// A file server that listens and does not serve yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    server: Arc<Server>,
    queue: Queue,
    registration: Registration,
    follower: Arc<Follower>,
    has_broker: bool,
    scrub_now: ScrubNow,
    origins: Origins,
}

/// Asks a server to read everything it holds again, now.
#[derive(Debug, Clone, Default)]
pub struct ScrubNow(Arc<Notify>);

impl ScrubNow {
    /// Asks; a round that runs begins anew.
    pub fn ask(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn asked(&self) {
        self.0.notified().await;
    }
}

impl App {
    /// Takes the data folder, brings it in order and binds the port.
    ///
    /// # Errors
    /// With what is wrong and what to do about it; nothing listens then.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let join_secret = config.upstream.join_secret().await?;
        let broker = config.upstream.broker()?;
        let origins = Origins::new(&config.reach, Guard::PublicOnly)?;
        let (server, queue) = open(&config, broker.as_ref().map(|url| url.expose_secret())).await?;
        let server = Arc::new(server);
        let listener = listen::bind(config.listen.listen).await?;
        let address = listener.local_addr()?;
        let advertised = match config.listen.public_url.clone() {
            Some(PublicUrl::Named(url)) => Advertised::Fixed(url),
            Some(PublicUrl::Auto) => Advertised::Towards { info: config.upstream.info.clone(), port: address.port() },
            None => Advertised::Fixed(Url::parse(&format!("http://{address}"))?),
        };
        let follower = Arc::new(Follower::new(server.clone()));
        let registration = Registration {
            server: server.clone(),
            follower: follower.clone(),
            advertised,
            join_secret,
            weight: config.replication.weight,
        };
        Ok(Self {
            config,
            listener,
            address,
            server,
            queue,
            registration,
            follower,
            has_broker: broker.is_some(),
            scrub_now: ScrubNow::default(),
            origins,
        })
    }

    /// Where the server listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The server's id.
    pub fn id(&self) -> &ServerId {
        &self.server.identity.id
    }

    /// What asks this server to read everything it holds again.
    pub fn scrub_now(&self) -> ScrubNow {
        self.scrub_now.clone()
    }

    pub(crate) fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When something that should have gone on for ever ended.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { config, listener, address, server, queue, registration, follower, has_broker, scrub_now, origins } =
            self;
        tracing::info!(server = %server.identity.id, zone = %server.zone, %address, "listening");
        let limits = config.peers.limits(config.limits.max_connections, config.limits.open_files);
        let mut tasks = Tasks::new();
        // Cancelled once no request is left: until then chunks may still be waiting for their sync.
        let drained = CancellationToken::new();
        tasks.spawn("commits", server.blobs.clone().keep_committing(queue, drained.clone()));
        let transport = Sendfile::new(config.limits.max_rate.map(|rate| rate.as_u64()));
        let serving = listen::serve_over(transport, listener, router(server.clone()), limits, shutdown.clone());
        tasks.spawn("listener", async move {
            let _drained = drained.drop_guard();
            serving.await
        });
        tasks.spawn("drain", drain(server.clone(), shutdown.clone()));
        tasks.spawn("heartbeat", registration.keep_registered(shutdown.clone()));
        if has_broker {
            tasks.spawn("catch-up", follower.clone().keep_in_step(shutdown.clone()));
            tasks.spawn("notices", notices::keep_asking(server.clone(), follower.clone(), shutdown.clone()));
        }
        tasks.spawn("facts", follow(server.clone(), follower, shutdown.clone()));
        tasks.spawn("reports", Reporter(server.clone()).keep_reporting(shutdown.clone()));
        tasks.spawn("reconciliation", reconcile::keep_reconciling(server.clone(), shutdown.clone()));
        tasks.spawn("removals", server.blobs.clone().keep_removing(shutdown.clone()));
        tasks.spawn("read-back", server.blobs.clone().keep_reading_back(shutdown.clone()));
        tasks.spawn("pruning", keep_pruning(server.clone(), config.limits.tokens, shutdown.clone()));
        tasks.spawn("volume", volume::keep_looking(server.blobs.clone(), shutdown.clone()));
        let replicator = Replicator::new(server.clone(), config.replication.replications)?;
        tasks.spawn("replication", replicator.keep_replicating(shutdown.clone()));
        let fetcher = Fetcher::new(server.clone(), origins, config.fetching.fetches);
        tasks.spawn("fetches", fetcher.keep_fetching(shutdown.clone()));
        let scrubber = Scrubber::new(server.clone(), &config.replication, scrub_now);
        tasks.spawn("scrub", scrubber.keep_scrubbing(shutdown.clone()));
        let outcome = tasks.run(&shutdown).await;
        server.store.close().await;
        tracing::info!(server = %server.identity.id, "stopped");
        outcome
    }
}

async fn open(config: &Config, broker: Option<&str>) -> anyhow::Result<(Server, Queue)> {
    let (data, folder) = take_folder(config).await?;
    let identity = Identity::read_or_make(&data)?;
    let database = data.join("file-server.db");
    let store = Store::open(&database).await.with_context(|| format!("cannot open {}", database.display()))?;
    store.raise_report_counter(Timestamp::now()).await?;
    let metrics = Arc::new(Metrics::default());
    let (blobs, queue) = Blobs::open(folder, store.clone(), metrics.clone(), config.limits.open_files).await?;
    let info = InfoServer::new(config.upstream.info.clone(), identity.clone())?;
    let bus: Arc<dyn EventBus> = match broker {
        Some(url) => Arc::new(Amqp::new(url)?),
        None => Arc::new(Outbox::follower(Arc::new(info.clone()))),
    };
    let server = Server {
        identity,
        zone: config.listen.zone.clone(),
        blobs,
        tokens: Tokens::new(store.clone(), info.clone(), metrics.clone(), config.limits.token_cache),
        running: Arc::new(Running::new(config.limits.max_rate_per_client.map(|rate| rate.as_u64()))),
        clock: Clock::new(store.high_water().await?, Timestamp::now(), Instant::now()),
        store,
        metrics,
        info,
        bus,
        pace: Pace::default(),
        registered: watch::Sender::new(false),
        usurped: watch::Sender::new(false),
        hints: Hints::default(),
        asking: Notify::new(),
        draining: AtomicBool::new(false),
    };
    Ok((server, queue))
}

/// The data folder, locked.
async fn take_folder(config: &Config) -> anyhow::Result<(PathBuf, Folder)> {
    let (slots, data, partial) = (config.storage.slots.clone(), config.storage.data.clone(), config.partial_folder());
    let reserve = config.storage.reserve;
    let (data, folder) = blocking(move || {
        Ok(match slots {
            Some(slots) => slots::take(&slots),
            None => Folder::prepare(&data, &partial).map(|folder| (data, folder)),
        })
    })
    .await??;
    Ok((data, folder.keep_free(reserve)))
}

async fn drain(server: Arc<Server>, shutdown: Shutdown) -> anyhow::Result<()> {
    shutdown.finishing().cancelled().await;
    server.drain();
    Ok(())
}

async fn follow(server: Arc<Server>, follower: Arc<Follower>, shutdown: Shutdown) -> anyhow::Result<()> {
    let subscription = Subscription { server: server.identity.id.clone(), zone: server.zone.clone() };
    let (mut registered, mut usurped) = (server.registered.subscribe(), server.usurped.subscribe());
    while !shutdown.finishing().is_cancelled() {
        // The log answers only those who are known, and of two processes with one identity only the registered one may take
        // messages from their queue.
        tokio::select! {
            known = registered.wait_for(|registered| *registered) => drop(known?),
            () = shutdown.finishing().cancelled() => break,
        }
        let stop = shutdown.finishing().child_token();
        let subscribed = server.bus.subscribe(&subscription, follower.as_ref(), &stop);
        let watched = async {
            let ended = usurped.wait_for(|usurped| *usurped).await.map(drop);
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

async fn keep_pruning(server: Arc<Server>, most: u32, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PRUNE_EVERY) => {}
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
        if !*server.registered.borrow() {
            // The time may be wrong; and nothing new comes in that would need the room.
            continue;
        }
        match server.store.prune_tokens(server.clock.now(), most).await {
            Ok(0) => {}
            Ok(pruned) => tracing::debug!(pruned, "removed tokens that ended"),
            Err(error) => tracing::error!(%error, "expired tokens could not be removed"),
        }
    }
}
