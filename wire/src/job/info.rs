//! Jobs as their requesters see them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Checked, JobReason, JobState, Validator};
use crate::{ChunkSet, Digest, FileId, FileName, JobId, OriginUrl, ServerId, Zone};

/// Answer of `POST /v1/jobs` and `GET /v1/jobs/{id}`, and the data of the stream's `job` events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobInfo {
    /// Identifier of the job (UUIDv7). A job that is *direct* from the start is not stored, so its identifier cannot be used.
    pub id: JobId,
    /// URL of the file that is fetched.
    pub url: OriginUrl,
    /// Name of the result.
    pub name: FileName,
    /// Current state.
    pub state: JobState,
    /// Cause of the state *direct*, *failed* or *stopped*; of a *scheduled* job, the cause of the delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<JobReason>,
    /// Time of the next attempt of a *scheduled* job whose origin did not respond. The pause between attempts grows from 5 s to
    /// 5 min; the job fails after an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// Catalogue entry whose chunks the workers serve; absent until the origin has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
    /// Catalogue entries that the same content had in earlier attempts. A `.part` file of one of them can be resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<FileId>,
    /// Size of the content in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Size in bytes of every chunk but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    /// Validator of the version that is fetched. A direct download that continues a joint one needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<Validator>,
    /// Expected SHA-256 of the content, if a requester or the origin gave one; the computed one once the content is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Evidence that the result was, or will be, checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
    /// Number of times that digests were withdrawn because a worker had reported a wrong one. After an increase requesters must
    /// hash the chunks they already have again.
    pub generation: u32,
    /// Number of connections that each span uses at the origin.
    pub connections: u8,
    /// Time at which the job starts or started.
    pub start_at: Timestamp,
    /// Time of the first request for the job.
    pub created_at: Timestamp,
    /// Set if the result becomes a file of the catalogue.
    pub keep: bool,
    /// Time at which a kept result is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Number of chunks in the content.
    pub chunks: u32,
    /// Number of chunks that a worker has fetched, or that every requester has from an earlier attempt.
    pub fetched: u32,
    /// File servers that work or worked on the job, by id.
    pub workers: Vec<WorkerInfo>,
    /// Number of requesters.
    #[serde(rename = "askers")]
    pub requesters: u32,
}

/// Contribution of one worker to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerInfo {
    /// File server that works on the job.
    pub server: ServerId,
    /// Zone of the file server.
    pub zone: Zone,
    /// Current activity.
    pub state: WorkerState,
    /// Chunks of the spans that the worker has under lease.
    pub spans: ChunkSet,
    /// Number of chunks that the worker was the first to fetch.
    pub chunks: u32,
    /// Bytes received from the origin for this job.
    pub bytes: u64,
    /// Recent rate in bytes per second.
    pub rate: u64,
}

/// Activity of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Fetches a span.
    Fetching,
    /// Waits for a span.
    Waiting,
    /// Has stopped reporting.
    Gone,
    /// Failed too often or sent wrong bytes, and receives no more spans of this job.
    Excluded,
}

/// Answer of `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobList {
    /// Jobs, newest first.
    pub jobs: Vec<JobInfo>,
    /// Value of `cursor` for the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Fetched chunk with its digest and holder. The data of the stream's `chunks` events are lists of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FetchedChunk {
    /// Position of the chunk, counted from 0.
    pub n: u32,
    /// SHA-256 of the chunk.
    pub sha256: Digest,
    /// File server that fetched the chunk; absent when no live server holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
}
