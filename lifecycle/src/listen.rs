//! An accept loop in which every wait has a deadline and the number of connections a bound.
//!
//! `axum::serve` waits for a request's head for ever, so that a few thousand sleepy sockets hold it; hyper has no write
//! deadline, so that a reader that never reads holds a body for ever.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::Shutdown;

mod deadline;

use deadline::WriteDeadline;

/// How long and how much a peer may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From the opening of a connection, or the end of the answer before, to the end of a request's head.
    pub head: Duration,
    /// Without a byte accepted by the peer while there is something to send.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, head: Duration::from_secs(15), write: Duration::from_secs(30) }
    }
}

/// The largest request head in bytes; also hyper's read buffer.
const MAX_HEAD: usize = 64 * 1024;

/// How long to leave `accept` alone after it failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot?,
            () = shutdown.finishing().cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
            () = shutdown.finishing().cancelled() => break,
        };
        // Heads and the ends of bodies must not wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let peer = PeerAddress(stream.peer_addr().ok());
        let (stream, attachment) = transport.wrap(stream);
        let router = router.clone().layer(axum::Extension(peer)).layer(axum::Extension(attachment));
        let (limits, shutdown) = (limits.clone(), shutdown.clone());
        connections.spawn(async move {
            serve_connection(stream, router, limits, shutdown).await;
            drop(slot);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// A peer that hung up in the queue is nothing; no descriptors left means to wait until some come back.
async fn pause_after(error: &io::Error) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !passing {
        tracing::warn!(%error, "cannot accept connections for now");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(WriteDeadline::new(stream, limits.write)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.finishing().cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = shutdown.aborting().cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The address at the other end of the connection, if it was still there to be asked.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub Option<SocketAddr>);
