//! Where the broker is.

use std::fmt;

use lapin::uri::AMQPUri;
use url::{Host, Url};

use crate::BusError;

/// Seconds. Half of it is the pace of heartbeats; a dead link is noticed after twice.
const HEARTBEAT: u16 = 10;

/// A broker's URI. Neither `Display` nor `Debug` shows the password.
#[derive(Clone)]
pub(super) struct Address(AMQPUri);

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, BusError> {
        // The parser's own messages quote the text, and with it the password.
        let url = Url::parse(text).map_err(|_| BusError::Address("not a URL"))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(BusError::Address("the scheme is neither amqp nor amqps"));
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| BusError::Address("a part of it has no meaning"))?;
        match url.host() {
            // Left alone, an IPv6 address would silently become `localhost`.
            Some(Host::Ipv6(address)) => uri.authority.host = address.to_string(),
            Some(_) => {}
            None => return Err(BusError::Address("it names no host")),
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
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
