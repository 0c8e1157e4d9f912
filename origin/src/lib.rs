#![doc = include_str!("../README.md")]

mod address_policy;
mod body;
mod coding;
mod config;
mod connector;
mod cookies;
mod credentials;
mod error;
mod headers;
mod http_date;
mod lenient;
mod limits;
mod name;
mod netrc;
mod proxy;
mod redirect;
mod request;
mod resolver;
mod response;
mod routes;
mod tls;
mod version;

use std::{ops::Range, sync::Arc};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE};
use wire::{
    Digest, FileName, OriginUrl,
    job::{Validator, VersionEvidence},
    range,
};

pub use self::{
    address_policy::AddressPolicy,
    body::Body,
    config::{OriginConfig, OriginConfigError, parse_network, parse_timeout},
    credentials::{Credentials, InvalidCredential},
    error::{Obstacle, OriginError},
    limits::{Limits, SERVER_TIMEOUT, USER_TIMEOUT},
    netrc::Netrc,
    proxy::{InvalidProxyUrl, PROXY_SCHEMES, parse_proxy_url},
    resolver::{Resolver, SystemResolver},
    response::Probe,
    tls::{CertificateFileError, trust_certificates},
    version::{ContentVersion, Rest, ResumePoint},
};
use self::{
    redirect::Downgrade,
    request::{FinalResponse, RequestSender},
    response::WholeHead,
};

/// A client for origins. Cheap to clone; its clones share their connections.
#[derive(Debug, Clone)]
pub struct Origins {
    sender: Arc<RequestSender>,
    downgrade: Downgrade,
}

/// A whole file, or all of it that follows a [`ResumePoint`].
#[derive(Debug)]
pub struct WholeBody {
    /// Offset of the body's first byte: that of the resume point, or 0 when the origin has another version or does not
    /// support ranges.
    pub start: u64,
    /// Bytes in the whole file, if the origin states it. Without it a truncated body cannot be told from a complete one.
    pub size: Option<u64>,
    /// The validator of this version.
    pub validator: Validator,
    /// All that the origin states of this version.
    pub evidence: VersionEvidence,
    /// The SHA-256 of the file, if the origin states it.
    pub sha256: Option<Digest>,
    /// The name that the origin or the URL gives the file, made safe.
    pub name: FileName,
    /// The bytes.
    pub body: Body,
}

impl Origins {
    /// Creates a client with the default limits and the resolver of the system.
    ///
    /// # Errors
    /// When the proxy's URL or the file of certificates cannot be used.
    pub fn new(config: &OriginConfig, policy: AddressPolicy) -> Result<Self, OriginConfigError> {
        Self::with(config, policy, config.limits(), Arc::new(SystemResolver::default()))
    }

    /// Creates a client of a program that fetches for its own user: with the user's credentials, from every address that the
    /// machine reaches. Redirects of public servers lead to public servers, unless the user allowed the network.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn for_user(config: &OriginConfig, credentials: Credentials) -> Result<Self, OriginConfigError> {
        let limits = Limits::of_user(config.origin_timeout.unwrap_or(USER_TIMEOUT));
        Self::build(config, AddressPolicy::Anywhere, limits, Arc::new(SystemResolver::default()), credentials)
    }

    /// Creates a client with other limits and another resolver.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn with(
        config: &OriginConfig,
        policy: AddressPolicy,
        limits: Limits,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, OriginConfigError> {
        Self::build(config, policy, limits, resolver, Credentials::default())
    }

    fn build(
        config: &OriginConfig,
        policy: AddressPolicy,
        limits: Limits,
        resolver: Arc<dyn Resolver>,
        credentials: Credentials,
    ) -> Result<Self, OriginConfigError> {
        let routes = config.routes(policy, limits, &resolver, credentials.identity.clone())?;
        let sender = Arc::new(RequestSender::new(routes, credentials, limits));
        Ok(Self { sender, downgrade: Downgrade::default() })
    }

    /// Returns a client of a caller that compares the whole file with a digest it knew before: it follows redirects from https to
    /// http, too, without any credentials.
    #[must_use]
    pub fn with_known_digest(self) -> Self {
        Self { downgrade: Downgrade::Followed, ..self }
    }

    /// Returns what the origin states about the file, by one GET of its first byte.
    ///
    /// # Errors
    /// [`OriginError`] with the class of the failure.
    pub async fn probe(&self, url: &OriginUrl) -> Result<Probe, OriginError> {
        let mut headers = range_header(&(0..1));
        want_digest(&mut headers);
        let limit = self.sender.limits().probe_timeout;
        let answered = tokio::time::timeout(limit, self.sender.get(url, &headers, self.downgrade)).await;
        let answer = answered.map_err(|_| OriginError::unreachable(format!("no response within {limit:?}")))??;
        response::check_probe(url, &answer.url, answer.response.status(), answer.response.headers())
    }

    /// Requests exactly the bytes `range` of `version`.
    ///
    /// # Errors
    /// [`OriginError`] with the class of the failure: *changed* for another version, *no-ranges* when the origin sends the
    /// whole file.
    pub async fn range(
        &self,
        url: &OriginUrl,
        version: &ContentVersion,
        range: Range<u64>,
    ) -> Result<Body, OriginError> {
        if range.is_empty() {
            return Ok(Body::empty());
        }
        let mut headers = range_header(&range);
        add_condition(&mut headers, &version.validator);
        let answer = self.sender.get(url, &headers, self.downgrade).await?;
        response::check_range(&answer.url, answer.response.status(), answer.response.headers(), version, &range)?;
        Ok(Body::new(answer.response, Some(range.end - range.start), self.sender.limits()))
    }

    /// Requests the whole file, or only what follows `resume` if the origin still has that version.
    ///
    /// # Errors
    /// [`OriginError`] with the class of the failure.
    pub async fn whole(&self, url: &OriginUrl, resume: Option<ResumePoint>) -> Result<WholeBody, OriginError> {
        // A version without a validator cannot be told from another one, so it is not resumed.
        let resume = resume.filter(|resume| resume.offset > 0 && resume.validator != Validator::None);
        let mut headers = HeaderMap::new();
        want_digest(&mut headers);
        if let Some(resume) = &resume {
            let value = HeaderValue::try_from(format!("bytes={}-", resume.offset));
            headers.extend(value.ok().map(|value| (RANGE, value)));
            add_condition(&mut headers, &resume.validator);
        }
        let answer = self.sender.get(url, &headers, self.downgrade).await?;
        let (status, fields) = (answer.response.status(), answer.response.headers());
        let head = response::check_whole(url, &answer.url, status, fields, resume.as_ref())?;
        self.body_of(answer, head).await
    }

    /// Requests the rest of a file of which the caller has bytes beyond the offset, to compare them.
    ///
    /// # Errors
    /// [`OriginError`] with the class of the failure: *changed* for another version, *no-ranges* when the origin sends the
    /// whole file.
    pub async fn rest(&self, url: &OriginUrl, rest: &Rest) -> Result<WholeBody, OriginError> {
        let mut headers = HeaderMap::new();
        want_digest(&mut headers);
        headers.extend(HeaderValue::try_from(format!("bytes={}-", rest.offset)).ok().map(|value| (RANGE, value)));
        let answer = self.sender.get(url, &headers, self.downgrade).await?;
        let (status, fields) = (answer.response.status(), answer.response.headers());
        let head = response::check_rest(url, &answer.url, status, fields, rest)?;
        self.body_of(answer, head).await
    }

    async fn body_of(&self, answer: FinalResponse, head: WholeHead) -> Result<WholeBody, OriginError> {
        let WholeHead { start, size, validator, evidence, sha256, name } = head;
        let suspect = coding::suspect(&answer.url, answer.response.headers());
        let mut body = match size.map(|size| size.saturating_sub(start)) {
            Some(0) => Body::empty(),
            remaining => Body::new(answer.response, remaining, self.sender.limits()),
        };
        if let Some(coding) = suspect
            && start == 0
            && coding.may_begin(body.peek().await?)
        {
            return Err(OriginError::garbled(
                "the origin compresses the text although that was not asked for (Content-Encoding); curl --compressed decodes it",
            ));
        }
        Ok(WholeBody { start, size, validator, evidence, sha256, name, body })
    }
}

/// Asks for the SHA-256 of the whole file (RFC 9530, RFC 3230).
fn want_digest(headers: &mut HeaderMap) {
    for (name, value) in [("want-repr-digest", "sha-256=10"), ("want-digest", "sha-256")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

fn range_header(range: &Range<u64>) -> HeaderMap {
    HeaderMap::from_iter(HeaderValue::try_from(range::request(range)).ok().map(|value| (RANGE, value)))
}

/// Adds `If-Range`: the origin sends the range only of this very version, and otherwise the whole of its present one.
fn add_condition(headers: &mut HeaderMap, validator: &Validator) {
    let text = match validator {
        Validator::Etag(tag) => tag,
        Validator::LastModified(date) => date,
        Validator::None => return,
    };
    headers.extend(HeaderValue::from_str(text).ok().map(|value| (IF_RANGE, value)));
}
