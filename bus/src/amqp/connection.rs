//! A connection to the broker whose socket is closed on drop.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::Stream;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::time;

use super::{address::Address, broker::Broker, dial};
use crate::BusError;

/// Time for the TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(4);
/// Time for connection and AMQP handshake. The look-up of the name has a limit of its own.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the answer to one request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the AMQP closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connection to the broker. lapin drives each connection with a thread, which waits for the broker without a deadline both in
/// the opening and in the closing handshake. The socket is shut down under that thread; otherwise a silent broker would
/// accumulate threads.
pub(super) struct BrokerConnection {
    connection: Connection,
    host: String,
    _socket: SocketGuard,
}

impl BrokerConnection {
    /// Connects to the first node that answers.
    pub(super) async fn open(broker: &Broker, name: &str) -> Result<Self, BusError> {
        let mut told = BusError::Unavailable;
        for address in broker.addresses() {
            match Self::open_node(&address, name).await {
                Ok(connection) => {
                    broker.prefer(&connection.host);
                    return Ok(connection);
                }
                // What a node says tells more than that another one is away.
                Err(error) if error.code().is_some() || told.code().is_none() => {
                    told = BusError::Node { host: address.host(), source: Box::new(error) };
                }
                Err(error) => tracing::debug!(%error, "Event bus: another node of the broker cannot be reached"),
            }
        }
        Err(told)
    }

    /// Returns the node's host and port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    async fn open_node(address: &Address, name: &str) -> Result<Self, BusError> {
        let authority = &address.uri().authority;
        let addresses = dial::look_up(&authority.host, authority.port).await.map_err(lapin::Error::from)?;
        let guard = SocketGuard(SharedSocket::default());
        let socket = guard.0.clone();
        let runtime = lapin::runtime::default_runtime()?;
        let reactor = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let stream = async {
                let attempt = |address| AsyncTcpStream::connect(&reactor, reactor.to_socket_addrs(address));
                let stream = dial::connect(addresses.clone(), attempt).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let tcp = plain.get_ref();
                    // A batch ends with a small frame; waiting for more data to send would delay its confirms.
                    tcp.set_nodelay(true)?;
                    socket.store(TcpStream::from(tcp.as_fd().try_clone_to_owned()?))?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => {
                        let config = OwnedTLSConfig::default();
                        let secured = stream.into_tls(&uri.authority.host, config.as_ref());
                        time::timeout(TLS_TIMEOUT, secured)
                            .await
                            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    }
                }
            };
            stream.await.map_err(lapin::Error::from)
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connector(address.uri().clone(), runtime, connect, properties);
        let connection =
            time::timeout(HANDSHAKE_TIMEOUT, connection).await.map_err(|_| BusError::Deadline("handshake"))??;
        Ok(Self { connection, host: address.host(), _socket: guard })
    }

    pub(super) async fn channel(&self) -> Result<Channel, BusError> {
        reply("channel", self.connection.create_channel()).await
    }

    pub(super) fn connected(&self) -> bool {
        self.connection.status().connected()
    }

    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    pub(super) fn events(&self) -> impl Stream<Item = Event> + Send + 'static {
        self.connection.events_listener()
    }

    /// Closes the connection in good order, if the broker answers.
    pub(super) async fn close(&self) {
        match time::timeout(CLOSE_TIMEOUT, self.connection.close(200, "OK".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "Event bus: the broker connection had been closed already"),
            Err(_) => tracing::debug!("Event bus: the broker did not confirm the end of the connection"),
        }
    }
}

/// Waits for the broker's answer to the request `what`.
pub(super) async fn reply<T>(
    what: &'static str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BusError> {
    Ok(time::timeout(REPLY_TIMEOUT, answer).await.map_err(|_| BusError::Deadline(what))??)
}

/// Second handle of the socket that lapin's thread reads from.
#[derive(Clone, Default)]
struct SharedSocket(Arc<Mutex<SocketState>>);

#[derive(Default)]
enum SocketState {
    #[default]
    None,
    Open(TcpStream),
    Shut,
}

impl SharedSocket {
    fn store(&self, stream: TcpStream) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, SocketState::Shut) {
            // The guard was dropped while the connection was being opened.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *state = SocketState::Open(stream);
        Ok(())
    }

    fn shut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let SocketState::Open(stream) = std::mem::replace(&mut *state, SocketState::Shut)
            && let Err(error) = stream.shutdown(Shutdown::Both)
        {
            tracing::trace!(%error, "Event bus: the socket had been shut down already");
        }
    }
}

/// Owner of a socket, which it shuts down on drop.
struct SocketGuard(SharedSocket);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.0.shut();
    }
}
