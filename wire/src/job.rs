//! Collaborative downloads: a *job* splits an origin URL into *spans* of chunks; file servers, its *workers*, each fetch
//! some under a *lease* with a *fence*; whoever asked for the job, its *askers*, take the chunks from the workers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AskerId, Digest, FileId, FileName, JobId, OriginUrl, Runs, ServerId, Zone};

/// The most connections that one span may use at the origin.
pub const MAX_CONNECTIONS: u8 = 16;
/// Chunks told of in one [`LeaseReport`].
pub const MAX_REPORTED: usize = 1024;

/// Body of `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// What to fetch.
    pub url: OriginUrl,
    /// What the content must be. Without it the origin's own digest is asked for, and else a sample is fetched twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Connections that each span uses at the origin, 1 to [`MAX_CONNECTIONS`]; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 16))]
    pub connections: Option<u8>,
    /// When to begin; at once when absent or past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Whether the result becomes a file of the catalogue, which its askers alone see, until it expires.
    #[serde(default)]
    pub keep: bool,
    /// The only zones whose servers may work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 32))]
    pub zones: Option<Vec<Zone>>,
    /// The name to give the result; taken from the URL or the origin's answer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<FileName>,
}

/// Query parameters of those who ask for a job, follow it, tell how far they are, and leave it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct Asking {
    /// The id that the asking process chose, so that another process of its account may leave without it. The account asks by
    /// itself when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<AskerId>,
}

/// Where a job is. Only forward, but for *running* ⇄ *checking*, and from *done* back to *running* when a worker is lost
/// whose chunks some asker still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for its time.
    Scheduled,
    /// Spans are fetched.
    Running,
    /// All chunks are fetched; some are fetched again by others, to compare.
    Checking,
    /// All chunks are fetched and checked as far as [`Checked`] says; workers serve them until the askers have them.
    Done,
    /// It cannot be fetched in parts: whoever asked fetches it alone. The reason says why.
    Direct,
    /// It ended without a result. The reason says why.
    Failed,
    /// It was given up: its last asker left, or it was cancelled.
    Stopped,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Running, Self::Checking, Self::Done, Self::Direct, Self::Failed, Self::Stopped];

    /// Whether nothing more is fetched.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Direct | Self::Failed | Self::Stopped)
    }

    /// Whether nothing will come of it any more.
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Direct | Self::Failed | Self::Stopped)
    }

    /// The word used in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Checking => "checking",
            Self::Done => "done",
            Self::Direct => "direct",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Why a job is not, or not any more, fetched together: a class that people and programs may see, never the origin's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No live file server may work on it.
    NoWorkers,
    /// The origin does not serve ranges.
    NoRanges,
    /// The origin does not say how long the content is.
    UnknownLength,
    /// The origin gives no strong validator, and no SHA-256 is known: versions could mix unseen.
    NoValidator,
    /// Too small for parts.
    SmallFile,
    /// Larger than a job may be.
    TooLarge,
    /// The origin's host has no public address, or a redirect leads to one that has none.
    NotPublic,
    /// The origin does not answer, or its name is not known.
    Unreachable,
    /// The origin's certificate is not trusted, or a redirect leads from https to http.
    NotSecure,
    /// Too many redirects, or one that leads nowhere.
    Redirects,
    /// The origin refuses: 401, 403, 404 and the like.
    Refused,
    /// The origin fails or is too busy, also after pauses.
    Busy,
    /// The origin's answer is not HTTP as it should be.
    Garbled,
    /// The content changed while it was fetched.
    Changed,
    /// The content is not what the SHA-256 says.
    WrongDigest,
    /// Every worker failed at it.
    WorkersFailed,
    /// Nobody wants it any more.
    Unwanted,
}

impl Reason {
    /// A sentence for people, without a full stop.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NoWorkers => "no file server is there to work on it",
            Self::NoRanges => "the origin does not serve ranges",
            Self::UnknownLength => "the origin does not say how long it is",
            Self::NoValidator => "the origin gives no strong validator (ETag), so that versions could mix",
            Self::SmallFile => "it is too small for parts",
            Self::TooLarge => "it is larger than a job may be",
            Self::NotPublic => "its address, or one that it redirects to, is not public",
            Self::Unreachable => "the origin cannot be reached",
            Self::NotSecure => "the connection to the origin is not secure",
            Self::Redirects => "the origin redirects too often or nowhere",
            Self::Refused => "the origin refuses it",
            Self::Busy => "the origin is too busy or fails",
            Self::Garbled => "the origin's answer makes no sense",
            Self::Changed => "the content changed at the origin while it was fetched",
            Self::WrongDigest => "the content does not have the SHA-256 that it should have",
            Self::WorkersFailed => "every worker failed at it",
            Self::Unwanted => "nobody wants it any more",
        }
    }
}

/// How a result was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Against the SHA-256 that an asker gave.
    Sha256,
    /// Against the SHA-256 that the origin gave.
    Origin,
    /// A sample of chunks was fetched by two workers and compared.
    Sampled,
    /// There was nothing to compare with: one worker alone fetched it all.
    Unchecked,
}

/// What tells one version of the origin's content from another (RFC 9110 §8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// A strong entity tag, with its quotes.
    Etag(String),
    /// A date of last modification that is old enough to count as strong (§8.8.2.2), as the origin wrote it.
    LastModified(String),
    /// None: only a SHA-256 of the whole will tell.
    None,
}

/// Answer of `POST /v1/jobs` and `GET /v1/jobs/{id}`, and the data of the stream's `job` events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobInfo {
    /// Its id. A job that is *direct* from the start is not kept: its id leads nowhere.
    pub id: JobId,
    /// What is fetched.
    pub url: OriginUrl,
    /// The name of the result.
    pub name: FileName,
    /// Where it is.
    pub state: JobState,
    /// Why it is *direct*, *failed* or *stopped*; of a *scheduled* one, why it could not begin yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When a *scheduled* one is tried again whose origin could not be asked in time: with pauses from 5 s to 5 min, for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// The catalogue entry whose chunks the workers serve, once the origin was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
    /// The entries that the same content had in earlier attempts: a `.part` file of theirs goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<FileId>,
    /// Bytes in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes in every chunk but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    /// What the content must be, if an asker or the origin said so; and what it is, once it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// How it was, or is to be, checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
    /// How often digests were withdrawn because a worker was found to lie: what was taken before is to be hashed again.
    pub generation: u32,
    /// Connections of each span at the origin.
    pub connections: u8,
    /// When it begins or began.
    pub start_at: Timestamp,
    /// When it was first asked for.
    pub created_at: Timestamp,
    /// Whether the result is kept.
    pub keep: bool,
    /// Until when a kept result stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Chunks in the content.
    pub chunks: u32,
    /// Chunks that some worker fetched, or that every asker has from an earlier attempt.
    pub fetched: u32,
    /// Who works or worked on it, by id.
    pub workers: Vec<WorkerInfo>,
    /// How many want it.
    pub askers: u32,
}

/// One worker's share of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerInfo {
    /// The file server.
    pub server: ServerId,
    /// Where it stands.
    pub zone: Zone,
    /// What it does.
    pub state: WorkerState,
    /// The spans it is at.
    pub spans: Runs,
    /// Chunks it fetched first.
    pub chunks: u32,
    /// Bytes it took from the origin for this job.
    pub bytes: u64,
    /// Bytes a second, of late.
    pub rate: u64,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It fetches.
    Fetching,
    /// It waits for a span.
    Waiting,
    /// It is not heard of.
    Gone,
    /// It failed too often, or sent wrong bytes, and gets no more spans of this job.
    Excluded,
}

/// Answer of `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobList {
    /// The jobs, newest first.
    pub jobs: Vec<JobInfo>,
    /// Passed as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A fetched chunk: which, its digest, and who holds it. The data of the stream's `chunks` events are lists of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FetchedChunk {
    /// Its position.
    pub n: u32,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Who fetched it; absent when nobody who lives holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
}

/// Body of `PUT /v1/jobs/{id}/progress`: what an asker has. It renews the asker's lease, and chunks that every asker has
/// are not fetched again when their worker is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AskerProgress {
    /// The chunks it verified and wrote.
    pub runs: Runs,
    /// SHA-256 of the whole, once the asker computed it. One that is not the expected one has every chunk checked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Body of `POST /v1/jobs/{id}/leases`, which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The chunks of the job's file that the worker holds, told while it works on none: what it was thought to hold beyond them, as
    /// before it lost its disk, is to be fetched again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Runs>,
}

/// Answer of `POST /v1/jobs/{id}/leases`: a worker's claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claimed {
    /// What to do; absent when there is nothing at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// When to ask again, in milliseconds from now, if there was nothing. 410 says that there will be nothing any more.
    pub again_ms: u32,
}

/// The right and the duty to fetch a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// Its number, ascending within the job: results under a stale one are refused.
    pub fence: u64,
    /// The chunks, half-open.
    pub span: Span,
    /// Whether the chunks are fetched for the first time or to compare: the latter are hashed and not kept.
    pub purpose: Purpose,
    /// The catalogue entry under which the chunks are kept.
    pub file: FileId,
    /// Bytes in the content.
    pub size: u64,
    /// Bytes in every chunk but the last.
    pub chunk_size: u64,
    /// What to fetch.
    pub url: OriginUrl,
    /// Which version.
    pub validator: Validator,
    /// How many connections to use at the origin.
    pub connections: u8,
    /// Seconds without a report after which the lease is over.
    pub lease_s: u32,
}

/// Half-open chunk interval `[a,b]` with `a < b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u32; 2]", into = "[u32; 2]")]
pub struct Span {
    start: u32,
    end: u32,
}

/// Why two numbers are not a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a span is a half-open interval of chunks [a,b] with a < b")]
pub struct SpanError;

impl Span {
    /// The first chunk.
    pub const fn start(self) -> u32 {
        self.start
    }

    /// The chunk after the last one.
    pub const fn end(self) -> u32 {
        self.end
    }

    /// The chunks.
    pub const fn range(self) -> std::ops::Range<u32> {
        self.start..self.end
    }
}

impl TryFrom<[u32; 2]> for Span {
    type Error = SpanError;

    fn try_from([start, end]: [u32; 2]) -> Result<Self, SpanError> {
        if start < end && end <= crate::chunks::MAX_CHUNKS { Ok(Self { start, end }) } else { Err(SpanError) }
    }
}

impl From<Span> for [u32; 2] {
    fn from(Span { start, end }: Span) -> Self {
        [start, end]
    }
}

/// What a span is fetched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Nobody has it.
    Fetch,
    /// Another worker has it, and it is compared.
    Check,
}

/// A chunk's position and SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChunkDigest {
    /// Its position.
    pub n: u32,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// Body of `PUT /v1/jobs/{id}/leases/{fence}`: renewal and result in one. Chunks may be told of more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseReport {
    /// Chunks of the span that are fetched, synced and served here (or only hashed, when they are compared), with their
    /// digests; at most [`MAX_REPORTED`].
    #[serde(default)]
    pub chunks: Vec<ChunkDigest>,
    /// Bytes taken from the origin since the lease began, wasted ones included.
    #[serde(default)]
    pub bytes: u64,
    /// Why the rest of the span will not come; the lease then ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<SpanFailure>,
}

/// Why a worker gives a span up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SpanFailure {
    /// What went wrong: one of the origin's faults, or *workers-failed* when it is the worker's own (no room, a failing disk).
    pub reason: Reason,
    /// When the origin may be asked again, in seconds from now, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// Answer of `PUT /v1/jobs/{id}/leases/{fence}`. 409 `stale-fence`: drop what is left of the span. 410: the job is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renewed {
    /// The span as it is now: its end may have come nearer, because somebody else takes the rest. Absent when all of it was
    /// reported: the lease is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Seconds without a report after which the lease is over.
    pub lease_s: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_spans_are_refused() {
        for bad in ["[1,1]", "[2,1]", "[0,16385]", "[0]", "[0,1,2]", "[-1,2]", "7"] {
            assert!(serde_json::from_str::<Span>(bad).is_err(), "{bad}");
        }
        let span: Span = serde_json::from_str("[3,16384]").unwrap();
        assert_eq!(serde_json::to_string(&span).unwrap(), "[3,16384]");
    }

    #[test]
    fn a_job_reads_as_documented() {
        let new: NewJob = serde_json::from_str(r#"{"url":"https://example.org/x"}"#).unwrap();
        assert_eq!((new.keep, new.connections, new.sha256), (false, None, None));
        assert!(serde_json::from_str::<NewJob>(r#"{"url":"https://example.org/x","sha":1}"#).is_err());
        let failure = SpanFailure { reason: Reason::Busy, retry_after_s: Some(3) };
        assert_eq!(serde_json::to_string(&failure).unwrap(), r#"{"reason":"busy","retry_after_s":3}"#);
        let etag = Validator::Etag("\"x\"".to_owned());
        assert_eq!(serde_json::to_string(&etag).unwrap(), r#"{"etag":"\"x\""}"#);
    }
}
