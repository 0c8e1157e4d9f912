//! An accept loop that bounds the number of connections and every wait for a peer.
//!
//! `axum::serve` waits for a request head without a deadline, so a few thousand idle sockets exhaust it. hyper has no write
//! deadline, so a peer that never reads keeps a response body open for ever.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::Router;
use lifecycle::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{limits::Limits, ready::ReadyResponses};

mod connection;
mod idle_timer;
mod per_ip_limit;
mod write_deadline;

pub use connection::PeerAddress;
use connection::RequestHandler;
use per_ip_limit::{PerIpLimit, PerIpPermit};
pub use write_deadline::PacedWrite;

/// Pause after `accept` failed for lack of descriptors or memory. Connections wait in the kernel's queue meanwhile and are
/// served once resources are free again; accepting them with a spare descriptor would only close them.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two warnings that `accept` fails.
const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Time that connections accepted during shutdown have to receive their 503 after the last request in flight has ended.
const LATE_CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// Binds `address`.
///
/// # Errors
/// The operating system's error, with the address in the message: "address in use" alone does not say which one.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Wrapper around accepted TCP connections.
pub trait Transport: Clone + Send + 'static {
    /// Stream that hyper reads from and writes to.
    type Stream: AsyncRead + AsyncWrite + PacedWrite + Unpin + Send + 'static;
    /// Extension that every request of a connection carries.
    type Extension: Clone + Send + Sync + 'static;

    /// Wraps an accepted connection.
    fn wrap(&self, stream: TcpStream) -> (Self::Stream, Self::Extension);
}

/// Transport that passes the TCP stream through unchanged.
#[derive(Debug, Clone, Copy)]
pub struct PlainTransport;

impl Transport for PlainTransport {
    type Stream = TcpStream;
    type Extension = ();

    fn wrap(&self, stream: TcpStream) -> (TcpStream, ()) {
        (stream, ())
    }
}

/// Serves `router` on `listener` until `shutdown`, finishes the requests in flight, then drops what is left.
///
/// While requests are in flight new connections are still accepted, so that `/livez`, `/readyz` and `/metrics` answer. Every
/// other request on them gets 503.
///
/// # Errors
/// None after the start: an error on one connection ends that connection only.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) -> anyhow::Result<()> {
    let service = ListenerService { transport: PlainTransport, router, ready: () };
    serve_with(service, listener, limits, shutdown).await
}

/// Parts that answer the requests of a listener.
#[derive(Debug, Clone)]
pub struct ListenerService<T, R> {
    /// Wrapper around its connections.
    pub transport: T,
    /// Routes.
    pub router: Router,
    /// Responses that bypass the router.
    pub ready: R,
}

/// Serves as [`serve`] does, over wrapped connections and with responses that bypass the router.
///
/// # Errors
/// None after the start: an error on one connection ends that connection only.
pub async fn serve_with<T: Transport, R: ReadyResponses<T::Extension>>(
    service: ListenerService<T, R>,
    listener: TcpListener,
    limits: Limits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut acceptor = Acceptor {
        listener,
        permits: Arc::new(Semaphore::new(limits.connections)),
        per_ip: PerIpLimit::new(limits.per_address),
        service,
        limits,
        shutdown: shutdown.clone(),
        warned_at: None,
    };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = shutdown.finishing().cancelled() => break,
        };
        connections.spawn(acceptor.serve(accepted, false));
    }
    let mut late_connections = JoinSet::new();
    while !connections.is_empty() {
        while late_connections.try_join_next().is_some() {}
        tokio::select! {
            _ = connections.join_next() => {}
            accepted = acceptor.accept() => {
                late_connections.spawn(acceptor.serve(accepted, true));
            }
        }
    }
    drop(acceptor);
    let answered = async { while late_connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LATE_CONNECTION_GRACE, answered).await;
    Ok(())
}

/// Listener with the permits that bound its connections.
struct Acceptor<T, R> {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    per_ip: PerIpLimit,
    service: ListenerService<T, R>,
    limits: Limits,
    shutdown: Shutdown,
    /// Time of the latest warning that `accept` fails.
    warned_at: Option<Instant>,
}

/// Accepted connection; dropping it returns its permits.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    per_ip_permit: PerIpPermit,
}

impl<T: Transport, R: ReadyResponses<T::Extension>> Acceptor<T, R> {
    /// Returns the next connection for which both limits have a permit.
    async fn accept(&mut self) -> Accepted {
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.per_ip.acquire(peer.ip()) {
                    Some(per_ip_permit) => return Accepted { stream, peer, permit, per_ip_permit },
                    None => tracing::debug!(%peer, "Closed a connection: its address has too many open already"),
                },
                Err(error) => pause_after(&error, &mut self.warned_at).await,
            }
        }
    }

    fn serve(&self, accepted: Accepted, late: bool) -> impl Future<Output = ()> + Send + use<T, R> {
        let Accepted { stream, peer, permit, per_ip_permit } = accepted;
        // Heads and the ends of bodies must not wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let ListenerService { transport, router, ready } = &self.service;
        let (stream, extension) = transport.wrap(stream);
        let (router, ready, peer) = (router.clone(), ready.clone(), PeerAddress(Some(peer)));
        let handler = RequestHandler { router, ready, peer, extension, late, rejections: Arc::default() };
        let (limits, shutdown) = (self.limits.clone(), self.shutdown.clone());
        async move {
            connection::serve(stream, handler, limits, shutdown).await;
            drop((permit, per_ip_permit));
        }
    }
}

/// Pauses after a failed `accept`, unless the error concerns only a peer that hung up while it was queued.
async fn pause_after(error: &io::Error, warned_at: &mut Option<Instant>) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if passing {
        return;
    }
    if warned_at.is_none_or(|at| at.elapsed() >= ACCEPT_WARNING_INTERVAL) {
        *warned_at = Some(Instant::now());
        tracing::warn!(%error, "Cannot accept connections at the moment; new ones wait in the kernel's queue");
    }
    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
}
