//! The address of the broker.

use std::fmt;

use lapin::uri::AMQPUri;
use url::{Host, Url};

use crate::BusError;

/// AMQP heartbeat timeout in seconds. Heartbeats are sent twice in this time; a dead connection is noticed after twice the time.
const HEARTBEAT_TIMEOUT_S: u16 = 10;

/// URI of the broker. Neither `Display` nor `Debug` shows the password.
#[derive(Clone)]
pub(super) struct Address(AMQPUri);

impl Address {
    /// Parses the addresses of one node or several, with commas between.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Self>, BusError> {
        let mut starts: Vec<usize> = text.match_indices(',').map(|(at, _)| at).collect();
        // A password may contain a comma: only one before a scheme separates.
        starts.retain(|at| {
            let rest = text.get(at + 1..).unwrap_or_default().trim_start();
            rest.starts_with("amqp://") || rest.starts_with("amqps://")
        });
        let mut addresses = Vec::new();
        let mut from = 0;
        for end in starts.into_iter().chain([text.len()]) {
            addresses.push(Self::parse(text.get(from..end).unwrap_or_default().trim())?);
            from = end + 1;
        }
        Ok(addresses)
    }

    /// Returns host and port.
    pub(super) fn host(&self) -> String {
        let authority = &self.0.authority;
        format!("{}:{}", authority.host, authority.port)
    }

    fn parse(text: &str) -> Result<Self, BusError> {
        // The URL parser's messages quote the text, and with it the password.
        let url = Url::parse(text).map_err(|_| BusError::Address("not a URL"))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(BusError::Address("the scheme is neither amqp nor amqps"));
        }
        // The broker repeats the name of a virtual host in its messages.
        if url.path().contains("://") || url.path().contains('@') {
            return Err(BusError::Address(
                "its virtual host looks like another address; separate addresses with a comma alone",
            ));
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| BusError::Address("a part of it is not valid"))?;
        match url.host() {
            // The AMQP parser silently turns an IPv6 address into `localhost`.
            Some(Host::Ipv6(address)) => uri.authority.host = address.to_string(),
            Some(_) => {}
            None => return Err(BusError::Address("it names no host")),
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_TIMEOUT_S);
        Ok(Self(uri))
    }

    pub(super) fn uri(&self) -> &AMQPUri {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.0;
        write!(f, "{scheme}://{}@{}:{} vhost {vhost}", authority.userinfo.username, authority.host, authority.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_password_vhost_and_heartbeat_come_from_the_uri() {
        let address = Address::parse("amqps://al%40ice:s3cret@broker.example/%2fddm?heartbeat=3").unwrap();
        let uri = address.uri();
        assert_eq!((uri.authority.userinfo.username.as_str(), uri.authority.port), ("al@ice", 5671));
        assert_eq!((uri.authority.userinfo.password.as_str(), uri.vhost.as_str()), ("s3cret", "/ddm"));
        assert_eq!(uri.query.heartbeat, Some(3));
        assert_eq!(Address::parse("amqp://localhost").unwrap().uri().query.heartbeat, Some(10));
        assert_eq!(Address::parse("amqp://[::1]:7").unwrap().uri().authority.host, "::1");
    }

    #[test]
    fn several_addresses_are_told_apart_from_commas_in_a_password() {
        let hosts = |text: &str| -> Vec<String> {
            let addresses = Address::parse_list(text).unwrap();
            addresses
                .iter()
                .map(|address| format!("{} {}", address.host(), address.uri().authority.userinfo.password))
                .collect()
        };
        assert_eq!(hosts("amqp://u:p@a:1/v"), ["a:1 p"]);
        assert_eq!(hosts("amqp://u:p@a:1/v,amqps://u:q@b/w"), ["a:1 p", "b:5671 q"]);
        assert_eq!(hosts(" amqp://u:p@a:1 , amqp://u:q@b:2 "), ["a:1 p", "b:2 q"]);
        assert_eq!(hosts("amqp://u:p,q@a:1/v"), ["a:1 p,q"]);
        for bad in
            ["amqp://u:s3cret@a/v;amqp://u:s3cret@b", "amqp://u:s3cret@a/v,u:s3cret@b", "amqp://u:p@a,amqp://", ""]
        {
            let error = Address::parse_list(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn no_form_of_an_address_or_its_error_shows_the_password() {
        let address = Address::parse("amqp://u:s3cret@h:1/v").unwrap();
        assert_eq!(address.to_string(), "amqp://u@h:1 vhost v");
        assert!(!format!("{address:?}").contains("s3cret"));
        for bad in [
            "u:s3cret@h",
            "http://u:s3cret@h",
            "amqp:u:s3cret",
            "amqp://u:s3cret@h?heartbeat=x",
            "amqp://u:s3cret@h:99999",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }
}
