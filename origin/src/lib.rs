#![doc = include_str!("../README.md")]

mod answer;
mod ask;
mod body;
mod fault;
mod field;
mod guard;
mod names;
mod reach;
mod version;

use std::{ops::Range, sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE};
use wire::{Digest, FileName, OriginUrl, job::Validator, range};

use self::{ask::Asker, guard::Addresses};
pub use self::{
    body::Body,
    fault::Fault,
    guard::Guard,
    names::{Names, SystemNames},
    reach::{OriginsError, Reach},
};

/// How long things may take at an origin, and how much it may send before it comes to the point.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a probe, redirects and all.
    pub probe: Duration,
    /// For the opening of one connection, TLS included.
    pub connect: Duration,
    /// For the head of one answer, from the request on.
    pub head: Duration,
    /// How long a body may bring nothing.
    pub idle: Duration,
    /// The time over which a body's speed is judged.
    pub window: Duration,
    /// Bytes a second that a body brings at least, over a window. With it every body of known length has a deadline.
    pub floor: u64,
    /// Redirects followed for one request.
    pub redirects: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(15),
            connect: Duration::from_secs(5),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            window: Duration::from_secs(20),
            floor: 4 << 10,
            redirects: 10,
        }
    }
}

/// The way to origins. Cheap to clone; its clones share their connections.
#[derive(Debug, Clone)]
pub struct Origins {
    asker: Arc<Asker>,
}

/// What an origin says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Bytes in it, if the origin says so.
    pub size: Option<u64>,
    /// Whether it answered a range with that range.
    pub ranges: bool,
    /// Which version it is.
    pub validator: Validator,
    /// Its SHA-256, if the origin says so.
    pub sha256: Option<Digest>,
    /// The name that the origin or the URL gives, made safe.
    pub name: FileName,
    /// Scheme, host and port of whoever answered in the end: connections are counted by it.
    pub origin: String,
}

/// The version that ranges are wanted of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes in the whole content.
    pub size: u64,
    /// Which version.
    pub validator: Validator,
}

/// All of a content, or all that follows what one had.
#[derive(Debug)]
pub struct Whole {
    /// Where the body begins: what was asked for, or 0 when the origin has another version or serves no ranges.
    pub start: u64,
    /// Bytes in the whole content, if the origin says so. Without it nobody can tell whether all has come.
    pub size: Option<u64>,
    /// Which version.
    pub validator: Validator,
    /// Its SHA-256, if the origin says so.
    pub sha256: Option<Digest>,
    /// The name that the origin or the URL gives, made safe.
    pub name: FileName,
    /// The bytes.
    pub body: Body,
}

impl Origins {
    /// # Errors
    /// When the proxy's URL or the file of certificates cannot be used.
    pub fn new(reach: &Reach, guard: Guard) -> Result<Self, OriginsError> {
        Self::with(reach, guard, Limits::default(), Arc::new(SystemNames))
    }

    /// As [`Self::new`], with other limits and another way to find the addresses of names.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn with(reach: &Reach, guard: Guard, limits: Limits, names: Arc<dyn Names>) -> Result<Self, OriginsError> {
        let addresses = Addresses::new(guard, reach.origin_allow.clone());
        let client = reach.client(&addresses, limits, names)?;
        Ok(Self { asker: Arc::new(Asker::new(client, addresses, limits)) })
    }

    /// What the origin says of the file: one GET of its first byte.
    ///
    /// # Errors
    /// With the class of what is wrong.
    pub async fn probe(&self, url: &OriginUrl) -> Result<Probe, Fault> {
        let mut headers = range_header(&(0..1));
        for (name, value) in [("want-repr-digest", "sha-256=10"), ("want-digest", "sha-256")] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let limit = self.asker.limits().probe;
        let asked = tokio::time::timeout(limit, self.asker.ask(url, &headers)).await;
        let answer = asked.map_err(|_| Fault::unreachable(format!("no answer within {limit:?}")))??;
        answer::probe(url, &answer.at, answer.response.status(), answer.response.headers())
    }

    /// The bytes `range` of the version `wanted`, exactly.
    ///
    /// # Errors
    /// With the class of what is wrong: *changed* for another version, *no-ranges* when the origin sends all of it.
    pub async fn range(&self, url: &OriginUrl, wanted: &Wanted, range: Range<u64>) -> Result<Body, Fault> {
        if range.is_empty() {
            return Ok(Body::empty());
        }
        let mut headers = range_header(&range);
        condition(&mut headers, &wanted.validator);
        let answer = self.asker.ask(url, &headers).await?;
        answer::range(&answer.at, answer.response.status(), answer.response.headers(), wanted, &range)?;
        Ok(Body::new(answer.response, Some(range.end - range.start), self.asker.limits()))
    }

    /// All of it; with `resume`, what follows the first so many bytes of that version, if the origin still has it.
    ///
    /// # Errors
    /// With the class of what is wrong.
    pub async fn whole(&self, url: &OriginUrl, resume: Option<(u64, Validator)>) -> Result<Whole, Fault> {
        // What cannot be told from another version is not resumed.
        let resume = resume.filter(|(from, validator)| *from > 0 && *validator != Validator::None);
        let mut headers = HeaderMap::new();
        if let Some((from, validator)) = &resume {
            let value = HeaderValue::try_from(format!("bytes={from}-"));
            headers.extend(value.ok().map(|value| (RANGE, value)));
            condition(&mut headers, validator);
        }
        let answer = self.asker.ask(url, &headers).await?;
        let (status, fields) = (answer.response.status(), answer.response.headers());
        let told = answer::whole(url, &answer.at, status, fields, resume.as_ref())?;
        let left = told.size.map(|size| size.saturating_sub(told.start));
        let body = match left {
            Some(0) => Body::empty(),
            left => Body::new(answer.response, left, self.asker.limits()),
        };
        let answer::Told { start, size, validator, sha256, name } = told;
        Ok(Whole { start, size, validator, sha256, name, body })
    }
}

fn range_header(range: &Range<u64>) -> HeaderMap {
    HeaderMap::from_iter(HeaderValue::try_from(range::request(range)).ok().map(|value| (RANGE, value)))
}

/// Has the origin send the range of this very version, and else all of what it has now.
fn condition(headers: &mut HeaderMap, validator: &Validator) {
    let text = match validator {
        Validator::Etag(tag) => tag,
        Validator::LastModified(date) => date,
        Validator::None => return,
    };
    headers.extend(HeaderValue::from_str(text).ok().map(|value| (IF_RANGE, value)));
}
