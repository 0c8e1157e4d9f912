//! The check of a file server's address: the identity that answers there, asked for before any client is sent to it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use url::Url;
use wire::server::ServerIdentity;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: usize = 4096;

/// An HTTP client that follows no redirect and uses no proxy.
#[derive(Debug, Clone)]
pub(crate) struct AddressCheck(reqwest::Client);

impl AddressCheck {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(ANSWER_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Each address is asked once in a while; an idle connection would only hold its server's shutdown.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self(client))
    }

    /// Returns the identity of the file server that answers at `base`.
    ///
    /// # Errors
    /// When no file server answers there in time.
    pub(crate) async fn identity(&self, base: &Url) -> anyhow::Result<ServerIdentity> {
        let mut answer = self.0.get(endpoint(base, "livez")).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            ensure!(body.len() + part.len() <= MAX_ANSWER_BYTES, "the answer is too long for an identity");
            body.extend_from_slice(&part);
        }
        serde_json::from_slice(&body).context("the answer is not the identity of a file server")
    }
}

/// Returns the address of `path` below the base address of a server.
pub(crate) fn endpoint(base: &Url, path: &str) -> String {
    format!("{}/{path}", base.as_str().trim_end_matches('/'))
}
