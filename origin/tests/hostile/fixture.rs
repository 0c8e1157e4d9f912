//! An origin that misbehaves, and clients of it.

use std::{
    io,
    net::IpAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ddm_origin::{AddressPolicy, Body, ContentVersion, Limits, OriginConfig, OriginError, Origins, Resolver};
use futures::future::BoxFuture;
use testkit::rogue::{Behaviour, Rogue};
use wire::{FileId, OriginUrl, job::Validator};

pub(crate) const LEN: usize = 100_000;

/// Short, so that the tests are; the ratios are those of the defaults.
pub(crate) const LIMITS: Limits = Limits {
    probe_timeout: Duration::from_secs(3),
    connect_timeout: Duration::from_secs(2),
    head_timeout: Duration::from_secs(1),
    idle_timeout: Duration::from_secs(1),
    rate_window: Duration::from_secs(2),
    min_rate: 4096,
    max_redirects: 10,
};

/// A resolver with prepared answers: each query gets the next one, and further queries the last one.
#[derive(Debug)]
pub(crate) struct PreparedResolver {
    pub(crate) answers: Vec<IpAddr>,
    pub(crate) queries: AtomicUsize,
}

impl Resolver for PreparedResolver {
    fn addresses(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let n = self.queries.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        let address = self.answers.get(n).copied();
        Box::pin(async move { Ok(address.into_iter().collect()) })
    }
}

pub(crate) fn allowing(network: &str) -> OriginConfig {
    OriginConfig { origin_allow: vec![network.parse().unwrap()], ..OriginConfig::default() }
}

pub(crate) fn resolved(
    config: &OriginConfig,
    policy: AddressPolicy,
    answers: &[&str],
) -> (Origins, Arc<PreparedResolver>) {
    let addresses = answers.iter().map(|address| address.parse().unwrap()).collect();
    let resolver = Arc::new(PreparedResolver { answers: addresses, queries: AtomicUsize::new(0) });
    (Origins::with(config, policy, LIMITS, resolver.clone()).unwrap(), resolver)
}

/// A client that may fetch from the loopback.
pub(crate) fn origins() -> Origins {
    resolved(&allowing("127.0.0.0/8"), AddressPolicy::PublicOnly, &["127.0.0.1"]).0
}

pub(crate) fn content() -> Vec<u8> {
    (0..LEN).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

pub(crate) struct Fixture {
    pub(crate) rogue: Rogue,
    pub(crate) url: OriginUrl,
    pub(crate) version: ContentVersion,
}

impl Fixture {
    pub(crate) async fn with(behaviour: Behaviour) -> Self {
        let file = FileId::new();
        let rogue = Rogue::start(file, content().into()).await.unwrap();
        rogue.set(behaviour);
        let url = rogue.url().as_str().parse().unwrap();
        let version = ContentVersion { size: LEN as u64, validator: Validator::Etag(format!("\"{file}\"")) };
        Self { rogue, url, version }
    }

    /// Fetches the bytes of a range.
    pub(crate) async fn range(&self, range: Range<u64>) -> Result<Vec<u8>, OriginError> {
        collect(origins().range(&self.url, &self.version, range).await?).await
    }
}

pub(crate) async fn collect(mut body: Body) -> Result<Vec<u8>, OriginError> {
    let mut all = Vec::new();
    while let Some(bytes) = body.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

pub(crate) fn header(name: &'static str, value: &str) -> Behaviour {
    Behaviour::Header { name, value: Some(value.to_owned()) }
}

pub(crate) fn absent(name: &'static str) -> Behaviour {
    Behaviour::Header { name, value: None }
}
