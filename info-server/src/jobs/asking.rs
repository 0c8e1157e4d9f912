//! What this server itself asks of origins.

use std::time::Duration;

use origin::{Guard, Origins, Reach, Wanted};
use wire::{
    Digest, Hasher, Layout, OriginUrl,
    job::{Reason, Validator},
};

use super::{board::Found, turns::Turns};

/// Requests at once, altogether and of one account; further ones wait.
const AT_ONCE: usize = 32;
const EACH: usize = 8;
/// How long one may wait for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long the fetching of one chunk may take.
const CHUNK: Duration = Duration::from_secs(300);

/// The way to origins.
#[derive(Debug)]
pub(crate) struct Asking {
    origins: Origins,
    turns: Turns,
    sizes: (u64, u64),
}

/// What a URL is good for.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// It can be fetched in parts.
    Parts(Found),
    /// It can be fetched, but by one alone.
    Alone(Reason, Box<origin::Probe>),
    /// It cannot be fetched from here.
    No(Reason),
}

impl Asking {
    /// `sizes`: what is smaller or larger is not fetched in parts.
    pub(crate) fn new(reach: &Reach, sizes: (u64, u64)) -> anyhow::Result<Self> {
        Ok(Self { origins: Origins::new(reach, Guard::PublicOnly)?, turns: Turns::new(AT_ONCE, EACH), sizes })
    }

    /// Asks what an origin has, for an account; `known` tells whether a SHA-256 of the content is.
    pub(crate) async fn probe(&self, user: i64, url: &OriginUrl, known: bool) -> Answer {
        let Some(_turn) = self.turns.take(user, TURN).await else {
            return Answer::No(Reason::Busy);
        };
        let probe = match self.origins.probe(url).await {
            Ok(probe) => probe,
            Err(fault) => {
                tracing::info!(%url, reason = ?fault.reason, "an origin cannot be asked: {}", fault.detail);
                return Answer::No(fault.reason);
            }
        };
        let known = known || probe.sha256.is_some();
        match parts(&probe, known, self.sizes) {
            Ok(size) => {
                let origin::Probe { validator, sha256, name, origin, .. } = probe;
                Answer::Parts(Found { name, size, validator, sha256, origin })
            }
            Err(Reason::TooLarge) => Answer::No(Reason::TooLarge),
            Err(reason) => Answer::Alone(reason, Box::new(probe)),
        }
    }

    /// The SHA-256 of one chunk, fetched here for an account.
    pub(crate) async fn chunk(
        &self,
        (user, url): (i64, &OriginUrl),
        (size, chunk_size): (u64, u64),
        validator: Validator,
        n: u32,
    ) -> Option<Digest> {
        // Long: who is right about a chunk is not decided by whoever has no time.
        let _turn = self.turns.take(user, CHUNK).await?;
        let layout = Layout::checked(size, chunk_size).ok()?;
        let bytes = layout.bytes_of(layout.chunk(n)?);
        let fetched = async {
            let mut body = self.origins.range(url, &Wanted { size, validator }, bytes).await?;
            let mut hasher = Hasher::new();
            while let Some(part) = body.next().await? {
                hasher.update(&part);
            }
            Ok::<Digest, origin::Fault>(hasher.finish())
        };
        match tokio::time::timeout(CHUNK, fetched).await.ok()? {
            Ok(digest) => Some(digest),
            Err(fault) => {
                tracing::warn!(%url, reason = ?fault.reason, "a chunk in dispute cannot be fetched: {}", fault.detail);
                None
            }
        }
    }
}

/// How much there is, if it can be fetched in parts; why not otherwise.
fn parts(probe: &origin::Probe, known: bool, (least, most): (u64, u64)) -> Result<u64, Reason> {
    let size = probe.size.ok_or(Reason::UnknownLength)?;
    if size > most {
        return Err(Reason::TooLarge);
    }
    if size < least.max(1) {
        return Err(Reason::SmallFile);
    }
    if !probe.ranges {
        return Err(Reason::NoRanges);
    }
    if probe.validator == Validator::None && !known {
        return Err(Reason::NoValidator);
    }
    Ok(size)
}
