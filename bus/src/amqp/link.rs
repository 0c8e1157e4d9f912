//! One connection to the broker, which ends for certain when it is dropped.

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

use super::address::Address;
use crate::BusError;

/// Until the stream stands, TLS included.
const CONNECT: Duration = Duration::from_secs(2);
/// Until the broker has let us in.
const HANDSHAKE: Duration = Duration::from_secs(6);
/// Until the broker has answered a request.
const REPLY: Duration = Duration::from_secs(10);
/// Until the broker has said goodbye.
const CLOSE: Duration = Duration::from_secs(1);

/// A connection. lapin drives each with a thread of its own, which waits for the broker without a deadline both in the
/// handshake and in the farewell: the socket is shut down under it, or a silent broker would collect threads.
pub(super) struct Link {
    connection: Connection,
    _leash: Leash,
}

impl Link {
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self, BusError> {
        let leash = Leash(Socket::default());
        let kept = leash.0.clone();
        let runtime = lapin::runtime::default_runtime()?;
        let reactor = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let stream = async {
                let host = (uri.authority.host.clone(), uri.authority.port);
                let stream = AsyncTcpStream::connect(&reactor, reactor.to_socket_addrs(host)).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let tcp = plain.get_ref();
                    // A batch ends with a small frame; waiting for more to send would hold its confirms back.
                    tcp.set_nodelay(true)?;
                    kept.keep(TcpStream::from(tcp.as_fd().try_clone_to_owned()?))?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await,
                }
            };
            let in_time = time::timeout(CONNECT, stream).await;
            in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(lapin::Error::from)
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connector(address.uri().clone(), runtime, connect, properties);
        let connection = time::timeout(HANDSHAKE, connection).await.map_err(|_| BusError::Deadline("handshake"))??;
        Ok(Self { connection, _leash: leash })
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

    /// Takes leave of the broker, if it listens.
    pub(super) async fn close(&self) {
        match time::timeout(CLOSE, self.connection.close(200, "OK".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "event bus: the connection was closed before we closed it"),
            Err(_) => tracing::debug!("event bus: the broker did not say goodbye"),
        }
    }
}

/// Awaits what the broker has to answer.
pub(super) async fn reply<T>(
    what: &'static str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BusError> {
    Ok(time::timeout(REPLY, answer).await.map_err(|_| BusError::Deadline(what))??)
}

/// A second handle of the socket that lapin's thread reads from.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Handle>>);

#[derive(Default)]
enum Handle {
    #[default]
    None,
    Open(TcpStream),
    Shut,
}

impl Socket {
    fn keep(&self, stream: TcpStream) -> io::Result<()> {
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*handle, Handle::Shut) {
            // Whoever wanted this connection has given up meanwhile.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *handle = Handle::Open(stream);
        Ok(())
    }

    fn shut(&self) {
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Handle::Open(stream) = std::mem::replace(&mut *handle, Handle::Shut)
            && let Err(error) = stream.shutdown(Shutdown::Both)
        {
            tracing::trace!(%error, "event bus: the connection had ended already");
        }
    }
}

/// Ends the socket with its owner.
struct Leash(Socket);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.shut();
    }
}
