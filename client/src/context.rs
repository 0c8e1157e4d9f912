//! The environment of a command.

use std::sync::Arc;

use anyhow::Context as _;
use info_client::{NameResolver, UserClient};
use origin::{OriginConfig, Origins, trust_certificates};
use reqwest::header::{HeaderMap, HeaderName};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use transfer::{rate_limiter::RateLimiter, source::client_builder};
use wire::{TraceId, trace::HEADER};

use crate::{
    cli::{Common, OriginLimits, OriginOptions},
    session::Logins,
};

/// Environment of a command.
#[derive(Debug)]
pub struct Context {
    /// Options of every command.
    pub common: Common,
    /// Token that a signal cancels.
    pub cancel: CancellationToken,
    /// Limit on the bytes of all downloads and uploads of this process.
    pub rate_limiter: RateLimiter,
    /// Trace id in the logs of all servers that work for this command.
    pub trace: TraceId,
}

impl Context {
    /// Creates the environment of a command that `cancel` ends.
    pub fn new(common: Common, cancel: CancellationToken) -> Self {
        let limit = common.limit_rate.filter(|rate| *rate > 0);
        let rate_limiter = limit.map_or_else(RateLimiter::default, RateLimiter::with_total);
        Self { common, cancel, rate_limiter, trace: TraceId::new() }
    }

    /// Returns the environment of a command that runs beside this one.
    pub(crate) fn beside(&self, cancel: CancellationToken) -> Self {
        let (common, rate_limiter) = (self.common.clone(), self.rate_limiter.clone());
        Self { common, cancel, rate_limiter, trace: TraceId::new() }
    }

    /// Returns the environment of a command of the same process with options of its own. The limit of a process is shared.
    pub(crate) fn with_options(&self, common: Common, cancel: CancellationToken) -> Self {
        if common.limit_rate == self.common.limit_rate {
            return Self { common, ..self.beside(cancel) };
        }
        Self::new(common, cancel)
    }

    /// Returns an HTTP client for bulk transfers.
    pub(crate) fn http(&self) -> anyhow::Result<reqwest::Client> {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(HEADER), self.trace.header().parse()?)]);
        let builder = client_builder().user_agent(concat!("ddm-client/", env!("CARGO_PKG_VERSION")));
        let builder = builder.default_headers(headers).dns_resolver(Arc::new(NameResolver::default()));
        let builder = match &self.common.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.clone())?),
            None => builder,
        };
        Ok(trust_certificates(builder, self.common.cacert.as_deref()).context("--cacert")?.build()?)
    }

    /// Returns a client of origins. The user may reach every address that this machine reaches; redirects are held to more.
    pub(crate) fn origins(&self, options: &OriginOptions) -> anyhow::Result<Origins> {
        let general = || self.common.proxy.as_ref().map(|proxy| SecretString::from(proxy.to_string()));
        let origin_proxy = self.common.origin_proxy.clone().or_else(general);
        let origin_ca = self.common.origin_ca.clone();
        let OriginLimits { origin_allow, origin_timeout } = options.limits.clone();
        let config = OriginConfig { origin_allow, origin_proxy, origin_ca, origin_timeout };
        Ok(Origins::for_user(&config, options.credentials()?)?)
    }

    /// Returns a client of the info-server with the stored login.
    ///
    /// # Errors
    /// When the stored logins cannot be read, or the proxy cannot be used.
    pub fn info_server(&self) -> anyhow::Result<UserClient> {
        let session = Logins::open(&self.common)?.token(&self.common.info);
        Ok(UserClient::new(self.common.info.clone(), self.http()?, session))
    }
}
