//! The server as a whole: `build`, `local_addr`, `run`. The same three calls serve production, tests and the local mode.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use lifecycle::{
    Shutdown, Tasks,
    listen::{self, Limits},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify},
};
use tokio_util::sync::CancellationToken;
use url::Url;
use wire::{ServerId, event::Stream};

use crate::{
    blobs::{Blobs, Folder, Queue, blocking},
    catchup::Follower,
    clock::Clock,
    config::Config,
    identity::Identity,
    info::InfoServer,
    metrics::Metrics,
    registration::Registration,
    reports::Reporter,
    routes::{Server, router},
    store::Store,
    tokens::Tokens,
};

/// How often expired tokens are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// A file server that listens and does not serve yet.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    most_tokens: u32,
    broker: bool,
    server: Arc<Server>,
    queue: Queue,
    registration: Registration,
    follower: Arc<Follower>,
    reporter: Reporter,
}

impl App {
    /// Takes the data folder, brings it in order and binds the port.
    ///
    /// # Errors
    /// With what is wrong and what to do about it; nothing listens then.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let join_secret = config.upstream.join_secret()?;
        let broker = config.upstream.broker()?.is_some();
        let (data, partial) = (config.storage.data.clone(), config.partial_folder());
        let folder = blocking(move || Ok(Folder::prepare(&data, &partial))).await??;
        let identity = Identity::read_or_make(&config.storage.data)?;
        let database = config.storage.data.join("file-server.db");
        let store = Store::open(&database).await.with_context(|| format!("cannot open {}", database.display()))?;
        let metrics = Arc::new(Metrics::default());
        let (blobs, queue) = Blobs::open(folder, store.clone(), metrics.clone(), config.limits.open_files).await?;
        let clock = Arc::new(Clock::new(store.high_water().await?, Timestamp::now(), Instant::now()));
        let info = InfoServer::new(config.upstream.info.clone(), identity.clone())?;
        let tokens = Arc::new(Tokens::new(store.clone(), info.clone(), metrics.clone(), config.limits.token_cache));
        let listener = listen::bind(config.listen.listen).await?;
        let address = listener.local_addr()?;
        let zone = config.listen.zone.clone();
        let url = match config.listen.public_url.clone() {
            Some(url) => url,
            None => Url::parse(&format!("http://{address}"))?,
        };
        let server = Arc::new(Server {
            identity: identity.clone(),
            zone: zone.clone(),
            blobs: blobs.clone(),
            tokens: tokens.clone(),
            running: Arc::default(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            store: store.clone(),
            registered: Arc::new(AtomicBool::new(false)),
            draining: AtomicBool::new(false),
            probing: Arc::default(),
        });
        let follower = Arc::new(Follower {
            own: Stream::of_server(&identity.id, &zone),
            store: store.clone(),
            info: info.clone(),
            tokens,
            running: server.running.clone(),
            blobs: blobs.clone(),
            metrics: metrics.clone(),
            turn: Mutex::default(),
            behind: Notify::new(),
        });
        let registration = Registration {
            identity,
            zone,
            url,
            join_secret,
            info: info.clone(),
            store: store.clone(),
            folder: blobs.folder().clone(),
            running: server.running.clone(),
            clock,
            follower: follower.clone(),
            registered: server.registered.clone(),
        };
        let reporter = Reporter { store, info, blobs, metrics };
        let limits = Limits { connections: config.limits.connections, ..Limits::default() };
        let most_tokens = config.limits.tokens;
        Ok(Self { listener, address, limits, most_tokens, broker, server, queue, registration, follower, reporter })
    }

    /// Where the server listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The server's id.
    pub fn id(&self) -> &ServerId {
        &self.server.identity.id
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When something that should have gone on forever ended.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { listener, address, limits, most_tokens, broker, server, queue, registration, follower, reporter } =
            self;
        tracing::info!(server = %server.identity.id, zone = %server.zone, %address, "listening");
        let mut tasks = Tasks::new();
        // Cancelled once no request is left: until then chunks may still be waiting for their sync.
        let drained = CancellationToken::new();
        tasks.spawn("commits", server.blobs.clone().keep_committing(queue, drained.clone()));
        tasks.spawn("listener", {
            let (router, shutdown) = (router(server.clone()), shutdown.clone());
            async move {
                let _drained = drained.drop_guard();
                listen::serve(listener, router, limits, shutdown).await
            }
        });
        tasks.spawn("drain", {
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move {
                shutdown.finishing().cancelled().await;
                server.drain();
                Ok(())
            }
        });
        tasks.spawn("heartbeat", registration.keep_registered(shutdown.clone()));
        tasks.spawn("facts", follower.keep_reading(broker, shutdown.clone()));
        tasks.spawn("reports", reporter.keep_reporting(shutdown.clone()));
        tasks.spawn("read-back", server.blobs.clone().keep_reading_back(shutdown.clone()));
        tasks.spawn("pruning", keep_pruning(server.clone(), most_tokens, shutdown.clone()));
        let outcome = tasks.run(&shutdown).await;
        server.store.close().await;
        tracing::info!(server = %server.identity.id, "stopped");
        outcome
    }
}

async fn keep_pruning(server: Arc<Server>, most: u32, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PRUNE_EVERY) => {}
            () = shutdown.finishing().cancelled() => return Ok(()),
        }
        match server.store.prune_tokens(server.clock.now(), most).await {
            Ok(0) => {}
            Ok(pruned) => tracing::debug!(pruned, "removed tokens that ended"),
            Err(error) => tracing::error!(%error, "expired tokens could not be removed"),
        }
    }
}
