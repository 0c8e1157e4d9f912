//! The stored form of a job: the values that go into the database and come back.
//!
//! The names in JSON are those that the database has; they stay when a field's name in Rust changes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::{
    ChunkLayout, Digest, FileId, FileName, JobId, OriginUrl, RequesterId, ServerId, Zone,
    job::{Checked, JobReason, JobState, SpanPurpose, Validator},
};

/// The facts of a job that are stored in one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) id: JobId,
    pub(crate) url: OriginUrl,
    pub(crate) name: FileName,
    /// Set if the first requester gave the name, so that the origin's does not replace it.
    #[serde(rename = "named")]
    pub(crate) name_given: bool,
    pub(crate) state: JobState,
    pub(crate) reason: Option<JobReason>,
    /// The content that the origin offers; none before the origin was probed.
    pub(crate) content: Option<OriginContent>,
    /// The catalogue entries of earlier attempts at the same content, oldest first.
    #[serde(rename = "formerly")]
    pub(crate) previous_files: Vec<FileId>,
    /// The SHA-256 that the content must have, and its source.
    pub(crate) expected: Option<(Digest, Checked)>,
    /// The SHA-256 that a holder of the whole file computed.
    #[serde(rename = "found")]
    pub(crate) computed_sha256: Option<Digest>,
    /// The number of times that digests were withdrawn.
    pub(crate) generation: u32,
    pub(crate) connections: u8,
    pub(crate) start_at: Timestamp,
    pub(crate) created_at: Timestamp,
    #[serde(rename = "over_at")]
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) keep: bool,
    pub(crate) expires_at: Option<Timestamp>,
    /// The only zones whose servers may work on the job; any when absent.
    pub(crate) zones: Option<Vec<Zone>>,
    /// The account of the first requester.
    pub(crate) owner: i64,
    /// The number of the newest lease.
    pub(crate) fence: u64,
    /// Bytes that were requested a second time, by hedges and checks.
    #[serde(rename = "wasted")]
    pub(crate) duplicate_bytes: u64,
    #[serde(rename = "shelf")]
    pub(crate) retention: RetentionStage,
    /// Set once every chunk was to be compared, because a requester computed another SHA-256. It happens once in the life of a job.
    #[serde(rename = "examined")]
    pub(crate) fully_verified: bool,
    /// True while the full verification runs.
    #[serde(rename = "examining", default)]
    pub(crate) full_verification: bool,
    /// The failed starts of a scheduled job whose time has come.
    #[serde(rename = "trying", default)]
    pub(crate) start_retry: Option<StartRetry>,
}

/// The failed starts of a scheduled job, and the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartRetry {
    #[serde(rename = "since")]
    pub(crate) first_attempt: Timestamp,
    #[serde(rename = "tries")]
    pub(crate) attempts: u32,
    #[serde(rename = "next")]
    pub(crate) next_attempt: Timestamp,
    /// The failure of the last attempt.
    pub(crate) reason: JobReason,
}

/// The steps of a kept result on its way into the catalogue, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum RetentionStage {
    /// No server is assigned to hold the file.
    #[serde(rename = "No")]
    Unassigned,
    /// Servers are assigned to hold all of the file.
    Assigned,
    /// The file is published in the catalogue.
    Published,
    /// Workers that are no replicas have received an event to drop what they fetched.
    #[serde(rename = "Tidied")]
    Released,
}

/// The content that an origin offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OriginContent {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    pub(crate) chunk_size: u64,
    pub(crate) validator: Validator,
    /// Scheme, host and port that serve the content, after redirects. None in records of older versions.
    #[serde(default)]
    pub(crate) origin: Option<String>,
}

impl JobRecord {
    /// Returns the origins at which the job's connections are counted: that of the URL, and that which serves the content if it
    /// is another one.
    pub(crate) fn origins(&self) -> Vec<String> {
        let named = self.url.origin();
        let serving = self.content.as_ref().and_then(|content| content.origin.clone());
        let serving = serving.filter(|serving| *serving != named);
        std::iter::once(named).chain(serving).collect()
    }

    /// Returns the SHA-256 that the content must have.
    pub(crate) fn expected_sha256(&self) -> Option<Digest> {
        self.expected.map(|(sha256, _)| sha256)
    }

    /// Returns true if servers of a zone may work on the job.
    pub(crate) fn admits(&self, zone: &Zone) -> bool {
        self.zones.as_ref().is_none_or(|zones| zones.contains(zone))
    }

    /// Returns true if chunks are fetched or compared, or could be again.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, JobState::Running | JobState::Checking | JobState::Done)
    }
}

impl OriginContent {
    pub(crate) fn layout(&self) -> Option<ChunkLayout> {
        ChunkLayout::checked(self.size, self.chunk_size).ok()
    }
}

/// A process of an account that asked for the job, or the account itself.
///
/// The id that a process chose distinguishes it from the other processes of its account, and means nothing with another account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequesterKey {
    pub(crate) user: i64,
    pub(crate) process: Option<RequesterId>,
}

/// A chunk whose digest is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkRecord {
    pub(crate) n: u32,
    pub(crate) sha256: Digest,
    pub(crate) first: Option<ServerId>,
    pub(crate) holder: Option<ServerId>,
    pub(crate) confirmed: bool,
}

/// A chunk about which votes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConflictRecord {
    pub(crate) n: u32,
    pub(crate) votes: Vec<VoteRecord>,
}

/// One vote about a chunk's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    /// The worker; none for the digest of an earlier attempt at the same content.
    pub(crate) server: Option<ServerId>,
    pub(crate) sha256: Digest,
    /// Set if the worker holds the bytes.
    pub(crate) holds: bool,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRecord {
    pub(crate) fence: u64,
    pub(crate) server: ServerId,
    pub(crate) terms: LeaseTerms,
}

/// The span of a lease, and the conditions under which it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseTerms {
    pub(crate) granted: (u32, u32),
    pub(crate) end: u32,
    pub(crate) purpose: SpanPurpose,
    #[serde(rename = "bet")]
    pub(crate) hedge: bool,
    pub(crate) connections: u8,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerRecord {
    pub(crate) server: ServerId,
    pub(crate) excluded: bool,
    pub(crate) failures: u32,
    pub(crate) bytes: u64,
}

/// A requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequesterRecord {
    pub(crate) key: RequesterKey,
    pub(crate) present: bool,
    pub(crate) left: bool,
}

/// The rows of a job that differ from those in the database; all of them when a job is read back.
#[derive(Debug, Clone)]
pub(crate) struct JobChanges {
    pub(crate) job: JobId,
    pub(crate) record: Option<JobRecord>,
    pub(crate) chunks: Vec<ChunkRecord>,
    /// Chunks whose digest is no longer known.
    pub(crate) withdrawn_chunks: Vec<u32>,
    pub(crate) conflicts: Vec<ConflictRecord>,
    /// Chunks about which votes no longer differ.
    pub(crate) resolved_conflicts: Vec<u32>,
    pub(crate) leases: Vec<LeaseRecord>,
    pub(crate) ended_leases: Vec<u64>,
    pub(crate) workers: Vec<WorkerRecord>,
    pub(crate) requesters: Vec<RequesterRecord>,
    pub(crate) forgotten_requesters: Vec<RequesterKey>,
}

impl JobChanges {
    /// Returns no changes.
    pub(crate) const fn none(job: JobId) -> Self {
        Self {
            job,
            record: None,
            chunks: Vec::new(),
            withdrawn_chunks: Vec::new(),
            conflicts: Vec::new(),
            resolved_conflicts: Vec::new(),
            leases: Vec::new(),
            ended_leases: Vec::new(),
            workers: Vec::new(),
            requesters: Vec::new(),
            forgotten_requesters: Vec::new(),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.record.is_none()
            && self.chunks.is_empty()
            && self.withdrawn_chunks.is_empty()
            && self.conflicts.is_empty()
            && self.resolved_conflicts.is_empty()
            && self.leases.is_empty()
            && self.ended_leases.is_empty()
            && self.workers.is_empty()
            && self.requesters.is_empty()
            && self.forgotten_requesters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_version_is_read_and_written_under_the_same_names() {
        let json = serde_json::json!({
            "id": JobId::new(), "url": "https://example.org/x.iso", "name": "x.iso", "named": true, "state": "running",
            "reason": null,
            "content": {
                "file": FileId::new(), "size": 10, "chunk_size": 1_048_576, "validator": { "etag": "\"1\"" },
                "origin": "https://example.org",
            },
            "formerly": [FileId::new()], "expected": [Digest::of(b"x"), "origin"], "found": Digest::of(b"x"),
            "generation": 1, "connections": 2, "start_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
            "over_at": null, "keep": true, "expires_at": null, "zones": ["eu"], "owner": 3, "fence": 4, "wasted": 5,
            "shelf": "No", "examined": true, "examining": true,
            "trying": {
                "since": "2026-01-01T00:00:00Z", "tries": 1, "next": "2026-01-01T00:00:05Z", "reason": "unreachable",
            },
        });
        let record: JobRecord = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap(), json);
        for (stage, word) in [
            (RetentionStage::Unassigned, "No"),
            (RetentionStage::Assigned, "Assigned"),
            (RetentionStage::Published, "Published"),
            (RetentionStage::Released, "Tidied"),
        ] {
            assert_eq!(serde_json::to_value(stage).unwrap(), word);
        }
        let terms =
            serde_json::json!({ "granted": [1, 4], "end": 3, "purpose": "fetch", "bet": true, "connections": 2 });
        let read: LeaseTerms = serde_json::from_value(terms.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), terms);
    }
}
