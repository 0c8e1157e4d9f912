//! The requests of this server's own to origins: what a URL offers, and the digest of a chunk in conflict.

use std::time::Duration;

use origin::{AddressPolicy, ContentVersion, OriginConfig, Origins};
use wire::{
    ChunkLayout, Digest, FileName, Hasher, OriginUrl,
    job::{JobReason, Validator},
};

use super::{
    limiter::Limiter,
    model::record::{JobRecord, OriginContent},
};

/// Requests at once; further ones wait.
const MAX_REQUESTS: usize = 32;
const MAX_REQUESTS_PER_ACCOUNT: usize = 8;
/// Longest time that a probe waits for its permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for fetching one chunk, and for waiting for its permit: a conflict is not decided against a worker because this
/// server is busy.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(300);

/// The way to origins.
#[derive(Debug)]
pub(crate) struct OriginProbe {
    origins: Origins,
    limiter: Limiter,
    sizes: JobSizes,
}

/// The sizes of content that is fetched in parts, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobSizes {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// The content that a probe found.
#[derive(Debug, Clone)]
pub(crate) struct ProbedContent {
    pub(crate) name: FileName,
    pub(crate) size: u64,
    pub(crate) validator: Validator,
    /// The SHA-256 that the origin states.
    pub(crate) sha256: Option<Digest>,
    /// Scheme, host and port of the server that answered, after redirects.
    pub(crate) origin: String,
}

/// The result of a probe.
#[derive(Debug, Clone)]
pub(crate) enum ProbeOutcome {
    /// The content can be fetched in parts.
    Divisible(ProbedContent),
    /// The content can be fetched, but by one client alone.
    DirectOnly(JobReason, Box<origin::Probe>),
    /// The content cannot be fetched from here.
    Failed {
        reason: JobReason,
        /// The pause that the origin asks for.
        retry_after: Option<Duration>,
    },
}

impl ProbeOutcome {
    /// Returns a failure for which the origin asked for no pause.
    pub(crate) const fn failed(reason: JobReason) -> Self {
        Self::Failed { reason, retry_after: None }
    }
}

/// A chunk in conflict.
#[derive(Debug, Clone)]
pub(crate) struct ChunkRequest {
    /// The account for which the chunk is fetched.
    user: i64,
    url: OriginUrl,
    content: OriginContent,
    n: u32,
}

impl ChunkRequest {
    /// Names a chunk of a job; none before the job has begun.
    pub(crate) fn new(record: &JobRecord, n: u32) -> Option<Self> {
        Some(Self { user: record.owner, url: record.url.clone(), content: record.content.clone()?, n })
    }
}

impl OriginProbe {
    /// Makes a probe; content of other `sizes` is not fetched in parts.
    ///
    /// # Errors
    /// When the settings for origins cannot be used.
    pub(crate) fn new(config: &OriginConfig, sizes: JobSizes) -> anyhow::Result<Self> {
        let limiter = Limiter::new(MAX_REQUESTS, MAX_REQUESTS_PER_ACCOUNT);
        Ok(Self { origins: Origins::new(config, AddressPolicy::PublicOnly)?, limiter, sizes })
    }

    /// Probes an origin for an account; `digest_known` is set if the requester gave a SHA-256.
    pub(crate) async fn probe(&self, user: i64, url: &OriginUrl, digest_known: bool) -> ProbeOutcome {
        let Some(_permit) = self.limiter.acquire(user, PERMIT_TIMEOUT).await else {
            return ProbeOutcome::failed(JobReason::Busy);
        };
        let probe = match self.origins.probe(url).await {
            Ok(probe) => probe,
            Err(error) => {
                tracing::info!(%url, reason = ?error.reason, "The origin of {url} cannot be probed: {}", error.detail);
                return ProbeOutcome::Failed { reason: error.reason, retry_after: error.retry_after };
            }
        };
        let digest_known = digest_known || probe.sha256.is_some();
        match divisible_size(&probe, digest_known, self.sizes) {
            Ok(size) => {
                let origin::Probe { validator, sha256, name, origin, .. } = probe;
                ProbeOutcome::Divisible(ProbedContent { name, size, validator, sha256, origin })
            }
            Err(JobReason::TooLarge) => ProbeOutcome::failed(JobReason::TooLarge),
            Err(reason) => ProbeOutcome::DirectOnly(reason, Box::new(probe)),
        }
    }

    /// Fetches a chunk and returns its SHA-256; none if that failed.
    pub(crate) async fn chunk_digest(&self, request: &ChunkRequest) -> Option<Digest> {
        let ChunkRequest { user, url, content, n } = request;
        let _permit = self.limiter.acquire(*user, CHUNK_TIMEOUT).await?;
        let layout = ChunkLayout::checked(content.size, content.chunk_size).ok()?;
        let bytes = layout.bytes_of(layout.chunk(*n)?);
        let version = ContentVersion { size: content.size, validator: content.validator.clone() };
        let fetched = async {
            let mut body = self.origins.range(url, &version, bytes).await?;
            let mut hasher = Hasher::new();
            while let Some(part) = body.next().await? {
                hasher.update(&part);
            }
            Ok::<Digest, origin::OriginError>(hasher.finish())
        };
        match tokio::time::timeout(CHUNK_TIMEOUT, fetched).await.ok()? {
            Ok(digest) => Some(digest),
            Err(error) => {
                let (reason, detail) = (error.reason, error.detail);
                tracing::warn!(%url, chunk = n, ?reason, "Chunk {n} of {url} cannot be fetched to decide a conflict: {detail}");
                None
            }
        }
    }
}

/// Returns the size of content that can be fetched in parts.
///
/// # Errors
/// The reason why it cannot.
fn divisible_size(probe: &origin::Probe, digest_known: bool, sizes: JobSizes) -> Result<u64, JobReason> {
    let size = probe.size.ok_or(JobReason::UnknownLength)?;
    if size > sizes.max {
        return Err(JobReason::TooLarge);
    }
    if size < sizes.min.max(1) {
        return Err(JobReason::SmallFile);
    }
    if !probe.ranges {
        return Err(JobReason::NoRanges);
    }
    if probe.validator == Validator::None && !digest_known {
        return Err(JobReason::NoValidator);
    }
    Ok(size)
}
