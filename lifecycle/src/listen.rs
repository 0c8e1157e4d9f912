//! An accept loop in which every wait has a deadline, every head a bound, and the number of connections too.
//!
//! `axum::serve` waits for a request's head for ever, so that a few thousand sleepy sockets hold it; hyper has no write
//! deadline, so that a reader that never reads holds a body for ever.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::Shutdown;

mod bounds;
mod chunked;
mod connection;
mod deadline;
mod gate;
mod head;
mod share;
mod target;

pub use bounds::Bounds;
use connection::Answers;
use share::{Share, Shares};

/// How long and how much a peer may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one address open at once; further ones are closed.
    pub per_address: usize,
    /// For the whole of a head, from its first byte or the opening of the connection.
    pub head: Duration,
    /// Without a request, after the one before was answered.
    pub idle: Duration,
    /// Without a byte of a body that is waited for.
    pub body: Duration,
    /// Without a byte accepted by the peer while there is something to send.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: 2048,
            head: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// How long to leave `accept` alone after it failed for want of descriptors or memory. Whoever waits in the kernel's queue
/// meanwhile is served once there are some again; with a spare descriptor they would be turned away instead.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often to say that it fails.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// After the last request in flight at a stop: for those who are just being told that it stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Binds `address`.
///
/// # Errors
/// With the address in the message, because "address in use" alone helps nobody.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}

/// How a connection's bytes travel.
pub trait Transport: Clone + Send + 'static {
    /// What hyper reads from and writes to.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What the handlers of a connection's requests find as an extension.
    type Attachment: Clone + Send + Sync + 'static;

    /// Takes an accepted connection over.
    fn wrap(&self, stream: TcpStream) -> (Self::Stream, Self::Attachment);
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Transport for Plain {
    type Stream = TcpStream;
    type Attachment = ();

    fn wrap(&self, stream: TcpStream) -> (TcpStream, ()) {
        (stream, ())
    }
}

/// Serves `router` on `listener` until `shutdown`; then answers what is in flight, then drops it.
///
/// While anything is in flight new connections are still taken, so that whoever asks `/readyz` is told; every other request
/// on them is answered 503.
///
/// # Errors
/// None after the start: what fails on one connection ends that connection.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: Shutdown) -> anyhow::Result<()> {
    serve_over(Plain, listener, router, limits, shutdown).await
}

/// As [`serve`], over connections of another kind.
///
/// # Errors
/// None after the start: what fails on one connection ends that connection.
pub async fn serve_over<T: Transport>(
    transport: T,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut door = Door {
        listener,
        slots: Arc::new(Semaphore::new(limits.connections)),
        shares: Shares::new(limits.per_address),
        transport,
        router,
        limits,
        shutdown: shutdown.clone(),
        complained: None,
    };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let came = tokio::select! {
            came = door.accept() => came,
            () = shutdown.finishing().cancelled() => break,
        };
        connections.spawn(door.serve(came, false));
    }
    let mut late = JoinSet::new();
    while !connections.is_empty() {
        while late.try_join_next().is_some() {}
        tokio::select! {
            _ = connections.join_next() => {}
            came = door.accept() => {
                late.spawn(door.serve(came, true));
            }
        }
    }
    drop(door);
    let told = async { while late.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, told).await;
    Ok(())
}

/// Where connections come in.
struct Door<T> {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    shares: Shares,
    transport: T,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
    /// When it was last said that nothing can be accepted.
    complained: Option<Instant>,
}

/// A connection with its place, which it gives back when it ends.
struct Came {
    stream: TcpStream,
    peer: SocketAddr,
    place: (OwnedSemaphorePermit, Share),
}

impl<T: Transport> Door<T> {
    /// The next connection for which there is a place.
    async fn accept(&mut self) -> Came {
        loop {
            let Ok(slot) = self.slots.clone().acquire_owned().await else {
                // Nobody closes the semaphore.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => match self.shares.take(peer.ip()) {
                    Some(share) => return Came { stream, peer, place: (slot, share) },
                    None => tracing::debug!(%peer, "closed a connection of an address that has its share already"),
                },
                Err(error) => pause_after(&error, &mut self.complained).await,
            }
        }
    }

    fn serve(&self, came: Came, late: bool) -> impl Future<Output = ()> + Send + use<T> {
        let Came { stream, peer, place } = came;
        // Heads and the ends of bodies must not wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let (stream, attachment) = self.transport.wrap(stream);
        let (router, peer) = (self.router.clone(), PeerAddress(Some(peer)));
        let answers = Answers { router, peer, attachment, late, refusals: Arc::default() };
        let (limits, shutdown) = (self.limits.clone(), self.shutdown.clone());
        async move {
            connection::serve(stream, answers, limits, shutdown).await;
            drop(place);
        }
    }
}

/// A peer that hung up in the queue is nothing; no descriptors left means to wait until some come back.
async fn pause_after(error: &io::Error, complained: &mut Option<Instant>) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if passing {
        return;
    }
    if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
        *complained = Some(Instant::now());
        tracing::warn!(%error, "cannot accept connections for now; those that come wait");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The address at the other end of the connection, if it was still there to be asked.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub Option<SocketAddr>);
