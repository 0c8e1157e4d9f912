//! Asks an address who answers there, before anyone is sent to it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use url::Url;
use wire::server::Identity;

const DEADLINE: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 4096;

/// A client that goes nowhere but where it is told.
#[derive(Debug, Clone)]
pub(crate) struct Probe(reqwest::Client);

impl Probe {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(DEADLINE)
            .timeout(DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Each address is asked once in a while; an idle connection would only hold its server's shutdown.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self(client))
    }

    /// Who answers at `base`.
    ///
    /// # Errors
    /// When nobody does, in time, with an identity.
    pub(crate) async fn identity(&self, base: &Url) -> anyhow::Result<Identity> {
        let mut answer = self.0.get(address(base, "livez")).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            ensure!(body.len() + part.len() <= MAX_ANSWER, "the answer is too long for an identity");
            body.extend_from_slice(&part);
        }
        serde_json::from_slice(&body).context("the answer is not the identity of a file server")
    }
}

/// `path` below the base address of a server.
pub(crate) fn address(base: &Url, path: &str) -> String {
    format!("{}/{path}", base.as_str().trim_end_matches('/'))
}
