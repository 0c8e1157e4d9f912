//! The settings of the client for origins.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use ipnet::IpNet;
use reqwest::{Client, Proxy, redirect};
use rustls::{ClientConfig, pki_types::CertificateDer};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    address_policy::{AddressFilter, AddressPolicy},
    connector::Connector,
    error::describe_chain,
    limits::{Limits, MAX_RESPONSE_HEADERS, USER_AGENT},
    proxy::{InvalidProxyUrl, parse_proxy_url},
    resolver::{FilteringResolver, Resolver},
    routes::{Route, Routes},
    tls::{self, CertificateFileError, ClientIdentity},
};

/// Shortest and longest timeout that can be set.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Settings of the client for origins, the web servers that hold the files of URLs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Origins of URLs")]
pub struct OriginConfig {
    /// Networks that may be fetched from although they are not public, such as 10.1.0.0/16
    #[arg(long, env = "DDM_ORIGIN_ALLOW", value_parser = parse_network, value_name = "NETWORK", value_delimiter = ',')]
    pub origin_allow: Vec<IpNet>,
    /// Proxy (http, https or socks5) for all requests to origins; the proxy must then refuse private addresses itself
    #[arg(long, env = "DDM_ORIGIN_PROXY", hide_env_values = true, value_name = "URL")]
    pub origin_proxy: Option<SecretString>,
    /// File (PEM) of certificate authorities to trust besides those of the system, or of self-signed certificates of origins
    #[arg(long, env = "DDM_ORIGIN_CA", value_name = "FILE")]
    pub origin_ca: Option<PathBuf>,
    /// Longest wait for the head of an origin's response, and for the next byte of its body [default: 30s]
    #[arg(long, env = "DDM_ORIGIN_TIMEOUT", value_parser = parse_timeout, value_name = "TIME")]
    pub origin_timeout: Option<Duration>,
}

/// Parses a timeout of origins, such as `30s` or `2m`.
///
/// # Errors
/// A sentence about a text that is no time, or a time that is too short or too long.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|_| "a time looks like 30s or 2m".to_owned())?;
    if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err("it must be between 1s and 1h".to_owned())
    }
}

/// Parses a network, or one address.
///
/// # Errors
/// Gives an example.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| alone()).map_err(|_| "use an address or a network such as 10.1.0.0/16".to_owned())
}

/// A setting that makes it impossible to reach origins.
#[derive(Debug, thiserror::Error)]
pub enum OriginConfigError {
    /// The proxy is not a URL of a supported kind.
    #[error("--origin-proxy: {0}")]
    Proxy(#[from] InvalidProxyUrl),
    /// The file of certificate authorities cannot be used.
    #[error("--origin-ca {0}")]
    Certificates(#[from] CertificateFileError),
    /// TLS cannot be set up.
    #[error("the HTTP client for origins cannot be created: {0}")]
    Client(String),
}

impl OriginConfig {
    /// Returns the limits of requests that a server makes.
    pub fn limits(&self) -> Limits {
        self.origin_timeout.map_or_else(Limits::default, Limits::of_server)
    }

    /// Returns the ways to servers. `identity` is the certificate that is presented to the server of the URL.
    pub(crate) fn routes(
        &self,
        policy: AddressPolicy,
        limits: Limits,
        resolver: &Arc<dyn Resolver>,
        identity: Option<ClientIdentity>,
    ) -> Result<Routes, OriginConfigError> {
        let route = |policy, identity: Option<ClientIdentity>| {
            let addresses = AddressFilter::new(policy, self.origin_allow.clone());
            let tls = tls::config(self.authorities()?, identity.as_ref());
            let tls = tls.map_err(|error| OriginConfigError::Client(error.to_string()))?;
            let (proxy, resolver) = (self.proxy()?, resolver.clone());
            let connector = Connector { tls: Arc::new(tls), proxy, addresses: addresses.clone(), resolver };
            let client = client(&connector, limits)?;
            Ok::<Route, OriginConfigError>(Route { client, addresses, connector })
        };
        let first = route(policy, identity.clone())?;
        let elsewhere = if identity.is_some() { route(policy, None)? } else { first.clone() };
        let guarded = if policy == AddressPolicy::PublicOnly {
            elsewhere.clone()
        } else {
            route(AddressPolicy::PublicOnly, None)?
        };
        Ok(Routes { first, elsewhere, guarded, proxied: self.origin_proxy.is_some() })
    }

    fn proxy(&self) -> Result<Option<Url>, OriginConfigError> {
        let Some(text) = &self.origin_proxy else { return Ok(None) };
        let mut url: Url = parse_proxy_url(text.expose_secret())?;
        if url.scheme() == "socks5" {
            // The proxy resolves the names of origins, too.
            url = parse_proxy_url(&url.as_str().replacen("socks5:", "socks5h:", 1))?;
        }
        Ok(Some(url))
    }

    fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, OriginConfigError> {
        Ok(self.origin_ca.as_deref().map(tls::read_certificates).transpose()?.unwrap_or_default())
    }
}

/// Creates the HTTP client whose connections go the same way as those of a connector.
fn client(connector: &Connector, limits: Limits) -> Result<Client, OriginConfigError> {
    let mut client = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(limits.connect_timeout)
        .pool_idle_timeout(limits.idle_timeout)
        // `RequestSender` follows redirects itself, to check each address. The proxy of the system is not used.
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        // What other programs read: folded lines, spaces before a colon, and lines that are no fields, which are left out. The
        // fields that decide about bytes are checked where they are used.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .tls_backend_preconfigured(ClientConfig::clone(&connector.tls));
    let mut addresses = connector.addresses.clone();
    if let Some(proxy) = &connector.proxy {
        client = client.proxy(Proxy::all(proxy.clone()).map_err(|_| InvalidProxyUrl)?);
        // The only name that is still resolved here is that of the proxy.
        addresses = AddressFilter::new(AddressPolicy::Anywhere, Vec::new());
    }
    let client = client.dns_resolver(Arc::new(FilteringResolver { resolver: connector.resolver.clone(), addresses }));
    client.build().map_err(|error| OriginConfigError::Client(describe_chain(&error)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Origins;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        config: OriginConfig,
    }

    fn config(args: &[&str]) -> OriginConfig {
        Line::parse_from(std::iter::once("x").chain(args.iter().copied())).config
    }

    #[test]
    fn networks_are_given_one_by_one_or_as_a_list() {
        let both = config(&["--origin-allow", "127.0.0.0/8,fd00::/8", "--origin-allow", "10.0.0.0/8"]);
        assert_eq!(both.origin_allow.len(), 3);
        for bad in ["10.0.0.0/33", "foo"] {
            let error = Line::try_parse_from(["x", "--origin-allow", bad]).unwrap_err().to_string();
            assert!(error.contains("such as 10.1.0.0/16"), "{error}");
        }
    }

    #[test]
    fn the_timeout_of_origins_is_set_within_bounds() {
        assert_eq!(config(&[]).limits(), Limits::default());
        let set = config(&["--origin-timeout", "45s"]).limits();
        assert_eq!((set.head_timeout, set.idle_timeout), (Duration::from_secs(45), Duration::from_secs(45)));
        for bad in ["0s", "2h", "soon", "45"] {
            assert!(Line::try_parse_from(["x", "--origin-timeout", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_invalid_proxy_is_refused_and_its_password_is_never_shown() {
        for bad in ["proxy", "ftp://proxy", "http://", "file:///x"] {
            let refused = Origins::new(&config(&["--origin-proxy", bad]), AddressPolicy::PublicOnly).unwrap_err();
            assert!(matches!(refused, OriginConfigError::Proxy(_)), "{bad}");
        }
        for good in ["http://me:hunter2@proxy:3128", "https://proxy", "socks5://127.0.0.1:1080"] {
            let config = config(&["--origin-proxy", good]);
            let origins = Origins::new(&config, AddressPolicy::PublicOnly).unwrap();
            assert!(!format!("{config:?}{origins:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        for path in ["/nonexistent/ca.pem", "/dev/null"] {
            let refused =
                Origins::new(&config(&["--origin-ca", path]), AddressPolicy::PublicOnly).unwrap_err().to_string();
            assert!(refused.contains(path), "{refused}");
        }
    }
}
