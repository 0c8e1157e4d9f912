//! The address of the client behind a request, as far as it can be known.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use http_front::acceptor::PeerAddress;

use crate::{
    config::Access,
    http::forwarded::{Syntax, elements_from_the_end},
    state::State,
};

/// The client's address; `None` when the connection was gone before its address could be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientIp(pub(crate) Option<IpAddr>);

impl FromRequestParts<Arc<State>> for ClientIp {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<PeerAddress>().and_then(|peer| peer.0).map(|peer| peer.ip().to_canonical());
        Ok(Self(peer.map(|peer| client(peer, &parts.headers, &state.config.access))))
    }
}

/// Returns the nearest address that no trusted proxy has. The addresses to its left may have been written by anyone, and so may every
/// other header: proxies pass on what a client sent.
fn client(peer: IpAddr, headers: &HeaderMap, access: &Access) -> IpAddr {
    let trusts = |address: IpAddr| access.trusted_proxies.iter().any(|network| network.contains(&address));
    let syntax = Syntax::of(&access.forwarded_header);
    let mut nearest = peer;
    for line in headers.get_all(&access.forwarded_header).iter().rev() {
        // A client's own part may have any bytes; the proxy's part after it counts nevertheless.
        for element in elements_from_the_end(&String::from_utf8_lossy(line.as_bytes())) {
            if !trusts(nearest) {
                return nearest;
            }
            let Some(address) = syntax.address(element) else { return nearest };
            nearest = address;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use clap::Parser as _;

    use super::*;
    use crate::cli::CommandLine;

    fn access(settings: &[&str]) -> Access {
        let line = ["ddm-info-server"].iter().chain(settings);
        CommandLine::try_parse_from(line).unwrap().config.access
    }

    fn found(access: &Access, peer: &str, lines: &[(&'static str, &[u8])]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        client(peer.parse().unwrap(), &headers, access)
    }

    #[test]
    fn only_trusted_proxies_say_who_called_them() {
        let trusting = access(&["--trusted-proxies", "10.0.0.0/8,::1"]);
        for (peer, hops, expected) in [
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4, 10.0.0.2:5"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "[2001:db8::1]:4, 10.0.0.2:5", "\"10.0.0.3:6\""], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["198.51.100.1, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ] {
            let lines: Vec<_> = hops.iter().map(|line| ("x-forwarded-for", line.as_bytes())).collect();
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(found(&trusting, peer, &lines), expected, "{peer} {hops:?}");
            assert_eq!(
                found(&access(&[]), peer, &lines),
                peer.parse::<IpAddr>().unwrap(),
                "none is trusted by default"
            );
        }
    }

    #[test]
    fn the_named_header_counts_and_every_other_one_is_ignored() {
        let lines: [(_, &[u8]); 3] =
            [("x-forwarded-for", b"203.0.113.1"), ("forwarded", b"for=203.0.113.2"), ("x-real-ip", b"203.0.113.3")];
        for (name, expected) in
            [("X-Forwarded-For", "203.0.113.1"), ("forwarded", "203.0.113.2"), ("X-Real-IP", "203.0.113.3")]
        {
            let access = access(&["--trusted-proxies", "10.0.0.1", "--forwarded-header", name]);
            assert_eq!(found(&access, "10.0.0.1", &lines), expected.parse::<IpAddr>().unwrap(), "{name}");
            let absent: Vec<_> = lines.into_iter().filter(|(other, _)| !other.eq_ignore_ascii_case(name)).collect();
            assert_eq!(found(&access, "10.0.0.1", &absent), "10.0.0.1".parse::<IpAddr>().unwrap(), "{name}");
        }
    }

    #[test]
    fn bytes_that_a_client_writes_do_not_hide_it_behind_the_proxy() {
        let appended = access(&["--trusted-proxies", "10.0.0.1"]);
        let client: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(found(&appended, "10.0.0.1", &[("x-forwarded-for", b"\xff\", 198.51.100.1:4")]), client);
        let forwarded = access(&["--trusted-proxies", "10.0.0.1", "--forwarded-header", "Forwarded"]);
        assert_eq!(found(&forwarded, "10.0.0.1", &[("forwarded", b"for=\"\xff, for=\"198.51.100.1:4\"")]), client);
    }
}
