//! The address at which clients reach this server.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use tokio::net::{UdpSocket, lookup_host};
use url::Url;

/// Time for the look-up of the info-server's name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The address setting: a URL, or `auto`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicUrl {
    /// The address of this machine from which the info-server is reached.
    Auto,
    /// The URL of the setting.
    Named(Url),
}

impl FromStr for PublicUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(url) => url.fmt(f),
        }
    }
}

/// Source of the address that heartbeats report.
#[derive(Debug, Clone)]
pub(crate) enum AdvertisedAddress {
    /// Constant address.
    Fixed(Url),
    /// The local end of the route to the info-server, and this port.
    Towards {
        /// The info-server.
        info: Url,
        /// The port on which this server listens.
        port: u16,
    },
}

impl AdvertisedAddress {
    /// Returns the present address. It is determined for every heartbeat: a name may not resolve yet when a server starts, and a
    /// machine may get another address.
    ///
    /// # Errors
    /// When the info-server's name does not resolve, or no route leads to it.
    pub(crate) async fn now(&self) -> io::Result<Url> {
        let (info, port) = match self {
            Self::Fixed(url) => return Ok(url.clone()),
            Self::Towards { info, port } => (info, *port),
        };
        let ip = tokio::time::timeout(LOOKUP_TIMEOUT, local_end(info)).await??;
        Url::parse(&format!("http://{}", SocketAddr::new(ip, port))).map_err(io::Error::other)
    }
}

/// Returns this machine's address on the route to the info-server. Connecting a datagram socket sends nothing: the kernel only
/// chooses the route, and with it our address.
async fn local_end(info: &Url) -> io::Result<IpAddr> {
    let host = info.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = info.port_or_known_default().unwrap_or(80);
    let mut error = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in lookup_host((host, port)).await? {
        match route(address).await {
            Ok(ip) => return Ok(ip),
            Err(unreachable) => error = unreachable,
        }
    }
    Err(error)
}

async fn route(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn towards(info: &str) -> io::Result<String> {
        let info = info.parse().unwrap();
        AdvertisedAddress::Towards { info, port: 9000 }.now().await.map(String::from)
    }

    #[tokio::test]
    async fn the_address_is_the_one_from_which_the_info_server_is_reached() {
        assert_eq!(towards("http://127.0.0.1:8000").await.unwrap(), "http://127.0.0.1:9000/");
        assert_eq!(towards("http://127.8.8.8/").await.unwrap(), "http://127.0.0.1:9000/");
        assert!(towards("http://nobody.invalid:8000").await.is_err());
    }

    #[tokio::test]
    async fn a_named_address_is_reported_as_it_is() {
        assert_eq!("auto".parse(), Ok(PublicUrl::Auto));
        let Ok(PublicUrl::Named(url)) = "https://files.example/a".parse() else { panic!("that is an address") };
        assert_eq!(AdvertisedAddress::Fixed(url.clone()).now().await.unwrap(), url);
        assert!("automatic".parse::<PublicUrl>().is_err());
    }
}
