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
use lifecycle::{
    Shutdown, Tasks,
    listen::{self, Limits},
};
use secrecy::ExposeSecret as _;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use url::Url;
use wire::ServerId;

use crate::{
    PublicUrl,
    address::Advertised,
    blobs::{Blobs, Folder, Queue, blocking},
    catchup::Follower,
    clock::Clock,
    config::Config,
    identity::Identity,
    info::InfoServer,
    metrics::Metrics,
    registration::Registration,
    reports::Reporter,
    routes::router,
    sendfile::Sendfile,
    server::Server,
    slots,
    store::Store,
    tokens::Tokens,
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
}

impl App {
    /// Takes the data folder, brings it in order and binds the port.
    ///
    /// # Errors
    /// With what is wrong and what to do about it; nothing listens then.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let join_secret = config.upstream.join_secret()?;
        let broker = config.upstream.broker()?;
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
        let registration = Registration { server: server.clone(), follower: follower.clone(), advertised, join_secret };
        Ok(Self { config, listener, address, server, queue, registration, follower, has_broker: broker.is_some() })
    }

    /// Where the server listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The server's id.
    pub fn id(&self) -> &ServerId {
        &self.server.identity.id
    }

    pub(crate) fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When something that should have gone on for ever ended.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { config, listener, address, server, queue, registration, follower, has_broker } = self;
        tracing::info!(server = %server.identity.id, zone = %server.zone, %address, "listening");
        let limits = Limits { connections: config.limits.connections, ..Limits::default() };
        let mut tasks = Tasks::new();
        // Cancelled once no request is left: until then chunks may still be waiting for their sync.
        let drained = CancellationToken::new();
        tasks.spawn("commits", server.blobs.clone().keep_committing(queue, drained.clone()));
        let serving = listen::serve_over(Sendfile, listener, router(server.clone()), limits, shutdown.clone());
        tasks.spawn("listener", async move {
            let _drained = drained.drop_guard();
            serving.await
        });
        tasks.spawn("drain", drain(server.clone(), shutdown.clone()));
        tasks.spawn("heartbeat", registration.keep_registered(shutdown.clone()));
        if has_broker {
            tasks.spawn("catch-up", follower.clone().keep_in_step(shutdown.clone()));
        }
        tasks.spawn("facts", follow(server.clone(), follower, shutdown.clone()));
        tasks.spawn("reports", Reporter(server.clone()).keep_reporting(shutdown.clone()));
        tasks.spawn("removals", server.blobs.clone().keep_removing(shutdown.clone()));
        tasks.spawn("read-back", server.blobs.clone().keep_reading_back(shutdown.clone()));
        tasks.spawn("pruning", keep_pruning(server.clone(), config.limits.tokens, shutdown.clone()));
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
        running: Arc::default(),
        clock: Clock::new(store.high_water().await?, Timestamp::now(), Instant::now()),
        store,
        metrics,
        info,
        bus,
        registered: watch::Sender::new(false),
        draining: AtomicBool::new(false),
        probing: Arc::default(),
    };
    Ok((server, queue))
}

/// The data folder, locked.
async fn take_folder(config: &Config) -> anyhow::Result<(PathBuf, Folder)> {
    let (slots, data, partial) = (config.storage.slots.clone(), config.storage.data.clone(), config.partial_folder());
    blocking(move || {
        Ok(match slots {
            Some(slots) => slots::take(&slots),
            None => Folder::prepare(&data, &partial).map(|folder| (data, folder)),
        })
    })
    .await?
}

async fn drain(server: Arc<Server>, shutdown: Shutdown) -> anyhow::Result<()> {
    shutdown.finishing().cancelled().await;
    server.drain();
    Ok(())
}

async fn follow(server: Arc<Server>, follower: Arc<Follower>, shutdown: Shutdown) -> anyhow::Result<()> {
    // The log answers only those who are known, and of two processes with one identity only the registered one may take
    // messages from their queue.
    let mut registered = server.registered.subscribe();
    tokio::select! {
        known = registered.wait_for(|registered| *registered) => drop(known?),
        () = shutdown.finishing().cancelled() => return Ok(()),
    }
    let subscription = Subscription { server: server.identity.id.clone(), zone: server.zone.clone() };
    Ok(server.bus.subscribe(&subscription, follower.as_ref(), shutdown.finishing()).await?)
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
