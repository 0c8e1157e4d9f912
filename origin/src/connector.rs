//! Connections to origins for requests that the HTTP library cannot make: plain or TLS, directly or through a proxy.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    Uri,
    header::{HeaderValue, InvalidHeaderValue},
};
use hyper_util::{
    client::legacy::connect::proxy::{SocksV5, Tunnel},
    rt::TokioIo,
};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tower::{Service, service_fn};
use url::{Host, Url};
use wire::OriginUrl;

use crate::{address_policy::AddressFilter, resolver::Resolver};

/// A connection of any kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Connection for T {}

type BoxedConnection = Box<dyn Connection>;

/// The way of connections: the certificates to trust, the proxy, and the addresses.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) proxy: Option<Url>,
    /// Addresses that may be connected to without a proxy.
    pub(crate) addresses: AddressFilter,
    pub(crate) resolver: Arc<dyn Resolver>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL of the proxy may hold a password.
        f.debug_struct("Connector").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Connector {
    /// Connects to the server of a URL.
    pub(crate) async fn connect(&self, url: &OriginUrl) -> io::Result<BoxedConnection> {
        let connection = match &self.proxy {
            None => self.open(url.url()).await?,
            Some(proxy) => self.open_through(proxy, url).await?,
        };
        if url.is_secure() { self.encrypt(connection, url.url()).await } else { Ok(connection) }
    }

    /// Returns the proxy that the request itself is sent to, because no tunnel leads through it.
    pub(crate) fn forwarding_proxy(&self, url: &OriginUrl) -> Option<&Url> {
        self.proxy.as_ref().filter(|proxy| !url.is_secure() && !is_socks(proxy))
    }

    async fn open_through(&self, proxy: &Url, url: &OriginUrl) -> io::Result<BoxedConnection> {
        let to_proxy = self.open(proxy).await?;
        let to_proxy = if proxy.scheme() == "https" { self.encrypt(to_proxy, proxy).await? } else { to_proxy };
        if self.forwarding_proxy(url).is_some() {
            return Ok(to_proxy);
        }
        let via: Uri = proxy[..url::Position::AfterPort].parse().map_err(io::Error::other)?;
        let origin = format!("{}://{}:{}", url.url().scheme(), host_text(url.url()), port(url.url()));
        let origin: Uri = origin.parse().map_err(io::Error::other)?;
        let mut to_proxy = Some(to_proxy);
        let opened = service_fn(move |_: Uri| {
            let connection = to_proxy.take().map(TokioIo::new);
            async { connection.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let tunnelled = if is_socks(proxy) {
            let socks = SocksV5::new(via, opened);
            let mut socks = match login(proxy) {
                Some(Login { user, password }) => socks.with_auth(user, password),
                None => socks,
            };
            socks.call(origin).await.map_err(io::Error::other)?
        } else {
            let tunnel = Tunnel::new(via, opened);
            let mut tunnel = match authorization(proxy).transpose().map_err(io::Error::other)? {
                Some(authorization) => tunnel.with_auth(authorization),
                None => tunnel,
            };
            tunnel.call(origin).await.map_err(io::Error::other)?
        };
        Ok(tunnelled.into_inner())
    }

    /// Connects to the first address of a host that answers, of those that the filter admits.
    async fn open(&self, url: &Url) -> io::Result<BoxedConnection> {
        let found: Vec<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            Some(Host::Domain(name)) => self.resolver.addresses(name.to_owned()).await?,
            None => Vec::new(),
        };
        let admitted = found.into_iter().filter(|address| self.proxy.is_some() || self.addresses.admits(*address));
        let admitted: Vec<SocketAddr> = admitted.map(|address| SocketAddr::new(address, port(url))).collect();
        Ok(Box::new(TcpStream::connect(admitted.as_slice()).await?))
    }

    async fn encrypt(&self, connection: BoxedConnection, url: &Url) -> io::Result<BoxedConnection> {
        let name = match url.host() {
            Some(Host::Ipv4(address)) => ServerName::from(IpAddr::from(address)),
            Some(Host::Ipv6(address)) => ServerName::from(IpAddr::from(address)),
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let connection = TlsConnector::from(Arc::clone(&self.tls)).connect(name, connection).await?;
        Ok(Box::new(connection))
    }
}

fn is_socks(proxy: &Url) -> bool {
    proxy.scheme().starts_with("socks")
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(if is_socks(url) { 1080 } else { 80 })
}

fn host_text(url: &Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::AfterHost]
}

/// The log-in at a proxy.
struct Login {
    user: String,
    password: String,
}

fn login(proxy: &Url) -> Option<Login> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let has_login = !proxy.username().is_empty() || proxy.password().is_some();
    has_login
        .then(|| Login { user: decoded(proxy.username()), password: decoded(proxy.password().unwrap_or_default()) })
}

/// Returns the header field with the log-in at a proxy, if its URL has one.
pub(crate) fn authorization(proxy: &Url) -> Option<Result<HeaderValue, InvalidHeaderValue>> {
    let Login { user, password } = login(proxy)?;
    let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))));
    Some(value.map(|mut value| {
        value.set_sensitive(true);
        value
    }))
}
