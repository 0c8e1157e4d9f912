//! One request, redirects and all.

use std::str;

use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION},
};
use wire::{OriginUrl, job::Reason};

use crate::{Fault, Limits, guard::Addresses};

/// Sends requests and follows redirects, each as carefully as the first address.
#[derive(Debug)]
pub(crate) struct Asker {
    client: Client,
    addresses: Addresses,
    limits: Limits,
}

/// An answer that is no redirect, and who gave it.
pub(crate) struct Answer {
    pub(crate) at: OriginUrl,
    pub(crate) response: Response,
}

impl Asker {
    pub(crate) fn new(client: Client, addresses: Addresses, limits: Limits) -> Self {
        Self { client, addresses, limits }
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Nothing travels but what is in `headers`, which holds no secret: every host may see it.
    pub(crate) async fn ask(&self, url: &OriginUrl, headers: &HeaderMap) -> Result<Answer, Fault> {
        let mut at = url.clone();
        for _ in 0..=self.limits.redirects {
            let response = self.send(&at, headers).await?;
            if !leads_on(response.status()) {
                return Ok(Answer { at, response });
            }
            at = next(&at, response.headers())?;
        }
        Err(Fault::new(Reason::Redirects, format!("more than {}", self.limits.redirects)))
    }

    async fn send(&self, at: &OriginUrl, headers: &HeaderMap) -> Result<Response, Fault> {
        self.addresses.check(at)?;
        let mut headers = headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let sent = self.client.get(at.url().clone()).headers(headers).send();
        let limit = self.limits.connect + self.limits.head;
        let response = tokio::time::timeout(limit, sent).await;
        Ok(response.map_err(|_| Fault::unreachable(format!("no answer within {limit:?}")))??)
    }
}

const fn leads_on(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn next(at: &OriginUrl, headers: &HeaderMap) -> Result<OriginUrl, Fault> {
    let location = headers.get(LOCATION).and_then(|value| str::from_utf8(value.as_bytes()).ok());
    let Some(location) = location else { return Err(Fault::new(Reason::Redirects, "without a usable Location")) };
    let next = at.join(location).map_err(|error| Fault::new(Reason::Redirects, error.to_string()))?;
    if at.is_secure() && !next.is_secure() {
        return Err(Fault::new(Reason::NotSecure, "a redirect from https to http"));
    }
    Ok(next)
}
