//! From where a request comes, as far as it can be known.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use ipnet::IpNet;
use lifecycle::listen::PeerAddress;

use crate::app::State;

/// The header that proxies append the address to that they were called from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address; `None` when the connection was gone before it could be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) Option<IpAddr>);

impl FromRequestParts<Arc<State>> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<PeerAddress>().and_then(|peer| peer.0).map(|peer| peer.ip().to_canonical());
        let hops = parts.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = hops.flat_map(|value| value.split(',')).map(str::trim).collect();
        Ok(Self(peer.map(|peer| client(peer, &hops, &state.config.access.trusted_proxies))))
    }
}

/// The nearest address that no trusted proxy has. What stands left of it anyone may have written.
fn client(peer: IpAddr, hops: &[&str], trusted: &[IpNet]) -> IpAddr {
    let trusts = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut nearest = peer;
    for hop in hops.iter().rev() {
        if !trusts(nearest) {
            break;
        }
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_who_called_them() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "::1/128"].iter().map(|net| net.parse().unwrap()).collect();
        for (peer, hops, expected) in [
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["198.51.100.1", "nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2", "10.0.0.3"], "10.0.0.2"),
        ] {
            let found = client(peer.parse().unwrap(), hops, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {hops:?}");
            let none = client(peer.parse().unwrap(), hops, &[]);
            assert_eq!(none, peer.parse::<IpAddr>().unwrap(), "nobody is trusted by default");
        }
    }
}
