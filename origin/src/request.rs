//! One GET request, with the redirects that follow it.

use std::net::SocketAddr;

use reqwest::{
    Response, StatusCode,
    header::{ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, LOCATION},
};
use url::Host;
use wire::{OriginUrl, job::JobReason};

use crate::{
    address_policy::is_public,
    cookies::CookieJar,
    credentials::Credentials,
    error::{OriginError, is_read_leniently},
    lenient,
    limits::Limits,
    redirect::{Downgrade, Login, Redirect},
    routes::{Route, Routes},
};

/// Sends requests and follows redirects. Each address on the way is checked like the first one.
#[derive(Debug)]
pub(crate) struct RequestSender {
    routes: Routes,
    credentials: Credentials,
    limits: Limits,
}

/// A response that is no redirect.
pub(crate) struct FinalResponse {
    /// The URL that gave it.
    pub(crate) url: OriginUrl,
    pub(crate) response: Response,
}

/// The state of a request on its way through redirects.
#[derive(Debug, Default)]
struct Way {
    cookies: CookieJar,
    /// Set once a redirect led to another scheme, host or port than the first one's.
    is_elsewhere: bool,
    /// Set once a public server redirected to another one.
    is_guarded: bool,
    /// Log-in that a redirect stated for its own target.
    login: Option<Login>,
}

impl RequestSender {
    pub(crate) fn new(routes: Routes, credentials: Credentials, limits: Limits) -> Self {
        Self { routes, credentials, limits }
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends a GET request. The credentials go to the first server alone; `headers` hold no secret, as every server on the way may
    /// see them.
    pub(crate) async fn get(
        &self,
        url: &OriginUrl,
        headers: &HeaderMap,
        downgrade: Downgrade,
    ) -> Result<FinalResponse, OriginError> {
        let (mut url, mut way) = (url.clone(), Way::default());
        for _ in 0..=self.limits.max_redirects {
            let response = self.send(&url, &way, headers).await?;
            if !is_redirect(response.status(), response.headers()) {
                return Ok(FinalResponse { url, response });
            }
            way.cookies.store(&url, response.headers());
            let Redirect { url: target, login } = Redirect::of(&url, response.headers(), downgrade)?;
            if target.origin() != url.origin() {
                way.is_elsewhere = true;
                way.is_guarded |= is_public_server(&url, response.remote_addr(), self.routes.proxied);
            }
            way.login = login.or(way.login);
            url = target;
        }
        let detail = format!("more than {} redirects", self.limits.max_redirects);
        Err(OriginError::new(JobReason::Redirects, detail))
    }

    async fn send(&self, url: &OriginUrl, way: &Way, headers: &HeaderMap) -> Result<Response, OriginError> {
        let route = match (way.is_elsewhere, way.is_guarded) {
            (_, true) => &self.routes.guarded,
            (true, false) => &self.routes.elsewhere,
            (false, false) => &self.routes.first,
        };
        route.addresses.check(url)?;
        let mut headers = headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let is_first = !way.is_elsewhere;
        let login = way.login.as_ref().filter(|login| login.is_for(url));
        headers.extend(login.map(|login| (AUTHORIZATION, login.authorization.clone())));
        self.credentials.apply(url, is_first, &mut headers);
        if let Some(cookies) = way.cookies.field(url, self.credentials.cookie(is_first)) {
            headers.insert(COOKIE, cookies);
        }
        let limit = self.limits.connect_timeout + self.limits.head_timeout;
        let response = tokio::time::timeout(limit, self.exchange(route, url, headers)).await;
        let response = response.map_err(|_| OriginError::unreachable(format!("no response within {limit:?}")));
        response.flatten().map_err(|error| error.at(url))
    }

    async fn exchange(&self, route: &Route, url: &OriginUrl, headers: HeaderMap) -> Result<Response, OriginError> {
        match route.client.get(url.url().clone()).headers(headers.clone()).send().await {
            Err(error) if is_read_leniently(&error) => lenient::get(url, headers, &route.connector).await,
            response => Ok(response?),
        }
    }
}

/// Returns true for a redirect. A list of choices is one if the server prefers one of them (RFC 9110 §15.4.1).
fn is_redirect(status: StatusCode, headers: &HeaderMap) -> bool {
    match status.as_u16() {
        301 | 302 | 303 | 307 | 308 => true,
        300 => headers.contains_key(LOCATION),
        _ => false,
    }
}

/// Returns true if a server is outside the user's own networks. Of a name that a proxy looks up, nothing is known but its text.
fn is_public_server(url: &OriginUrl, connected: Option<SocketAddr>, proxied: bool) -> bool {
    match (url.host(), connected) {
        (Host::Ipv4(address), _) => is_public(address.into()),
        (Host::Ipv6(address), _) => is_public(std::net::IpAddr::V6(address).to_canonical()),
        (Host::Domain(_), Some(address)) if !proxied => is_public(address.ip().to_canonical()),
        (Host::Domain(name), _) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name != "localhost" && !name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_public_by_the_address_that_was_connected_to_or_by_its_name() {
        let (inside, outside) = ("10.0.0.1:80".parse().unwrap(), "1.1.1.1:80".parse().unwrap());
        for (url, connected, proxied, public) in [
            ("http://1.1.1.1/", None, false, true),
            ("http://10.1.2.3/", Some(outside), true, false),
            ("http://[::ffff:10.0.0.1]/", None, false, false),
            ("http://[2606:4700::1111]/", None, false, true),
            ("http://a.org/", Some(outside), false, true),
            ("http://a.org/", Some(inside), false, false),
            ("http://a.org/", Some(inside), true, true),
            ("http://a.org/", None, false, true),
            ("http://LOCALHOST./", Some(inside), true, false),
            ("http://x.localhost/", None, true, false),
        ] {
            assert_eq!(
                is_public_server(&url.parse().unwrap(), connected, proxied),
                public,
                "{url} {connected:?} {proxied}"
            );
        }
    }
}
