//! The settings of the way to origins.

use std::{fs, io, path::PathBuf, sync::Arc};

use clap::Args;
use ipnet::IpNet;
use reqwest::{Certificate, Client, Proxy, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    Guard, Limits,
    guard::Addresses,
    names::{GuardedNames, Names},
};

/// How origins announce who asks.
const AGENT: &str = concat!("ddm/", env!("CARGO_PKG_VERSION"));
/// Header lines that an answer may have.
const MAX_HEADERS: usize = 100;

/// How origins, the web servers that URLs are fetched from, are reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Origins of URLs")]
pub struct Reach {
    /// Networks that may be fetched from although they are not public, such as 10.1.0.0/16
    #[arg(long, env = "DDM_ORIGIN_ALLOW", value_name = "NETWORK", value_delimiter = ',')]
    pub origin_allow: Vec<IpNet>,
    /// A proxy (http, https or socks5) for everything fetched from origins; reaching only what is public is then its duty
    #[arg(long, env = "DDM_ORIGIN_PROXY", hide_env_values = true, value_name = "URL")]
    pub origin_proxy: Option<SecretString>,
    /// A file (PEM) of certificate authorities that are trusted besides the system's
    #[arg(long, env = "DDM_ORIGIN_CA", value_name = "FILE")]
    pub origin_ca: Option<PathBuf>,
}

/// Why there is no way to origins.
#[derive(Debug, thiserror::Error)]
pub enum OriginsError {
    /// The proxy's URL is none.
    #[error("--origin-proxy must be a URL such as http://proxy.example.org:3128 or socks5://proxy.example.org:1080")]
    Proxy,
    /// The file of certificate authorities cannot be read.
    #[error("--origin-ca {path}: {source}", path = .path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of certificate authorities holds none.
    #[error("--origin-ca {path} holds no certificate in PEM form", path = .path.display())]
    NoCertificate {
        /// Its path.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("the client for origins cannot be made: {0}")]
    Client(String),
}

impl Reach {
    pub(crate) fn client(
        &self,
        addresses: &Addresses,
        limits: Limits,
        names: Arc<dyn Names>,
    ) -> Result<Client, OriginsError> {
        let mut client = Client::builder()
            .user_agent(AGENT)
            .connect_timeout(limits.connect)
            .pool_idle_timeout(limits.idle)
            // Redirects are followed by hand, and the system's proxy is not asked for.
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            .tls_certs_merge(self.authorities()?);
        let mut addresses = addresses.clone();
        if let Some(proxy) = self.proxy()? {
            client = client.proxy(proxy);
            // The only name that is still asked for here is the proxy's own.
            addresses = Addresses::new(Guard::Anywhere, Vec::new());
        }
        let client = client.dns_resolver(Arc::new(GuardedNames { names, addresses }));
        client.build().map_err(|error| OriginsError::Client(error.to_string()))
    }

    fn proxy(&self) -> Result<Option<Proxy>, OriginsError> {
        let Some(text) = &self.origin_proxy else { return Ok(None) };
        let mut url: Url = text.expose_secret().parse().map_err(|_| OriginsError::Proxy)?;
        if url.scheme() == "socks5" {
            // Names are the proxy's to look up, too.
            let spelled = url.as_str().replacen("socks5:", "socks5h:", 1);
            url = spelled.parse().map_err(|_| OriginsError::Proxy)?;
        }
        if !matches!(url.scheme(), "http" | "https" | "socks5h") || !url.has_host() {
            return Err(OriginsError::Proxy);
        }
        Proxy::all(url).map(Some).map_err(|_| OriginsError::Proxy)
    }

    fn authorities(&self) -> Result<Vec<Certificate>, OriginsError> {
        let Some(path) = &self.origin_ca else { return Ok(Vec::new()) };
        let pem = fs::read(path).map_err(|source| OriginsError::Unreadable { path: path.clone(), source })?;
        let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if found.is_empty() { Err(OriginsError::NoCertificate { path: path.clone() }) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Origins;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        reach: Reach,
    }

    fn reach(args: &[&str]) -> Reach {
        Line::parse_from(std::iter::once("x").chain(args.iter().copied())).reach
    }

    #[test]
    fn networks_are_given_one_by_one_or_as_a_list() {
        let both = reach(&["--origin-allow", "127.0.0.0/8,fd00::/8", "--origin-allow", "10.0.0.0/8"]);
        assert_eq!(both.origin_allow.len(), 3);
        assert!(Line::try_parse_from(["x", "--origin-allow", "10.0.0.0/33"]).is_err());
    }

    #[test]
    fn a_proxy_that_is_none_is_refused_and_its_password_never_shown() {
        for bad in ["proxy", "ftp://proxy", "http://", "file:///x"] {
            let refused = Origins::new(&reach(&["--origin-proxy", bad]), Guard::PublicOnly).unwrap_err();
            assert!(matches!(refused, OriginsError::Proxy), "{bad}");
        }
        for good in ["http://me:hunter2@proxy:3128", "https://proxy", "socks5://127.0.0.1:1080"] {
            let reach = reach(&["--origin-proxy", good]);
            let origins = Origins::new(&reach, Guard::PublicOnly).unwrap();
            assert!(!format!("{reach:?}{origins:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        for path in ["/nonexistent/ca.pem", "/dev/null"] {
            let refused = Origins::new(&reach(&["--origin-ca", path]), Guard::PublicOnly).unwrap_err().to_string();
            assert!(refused.contains(path), "{refused}");
        }
    }
}
