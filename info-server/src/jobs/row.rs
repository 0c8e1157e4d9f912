//! What is kept of a job: the values that go into the database and come back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::{
    Digest, FileId, FileName, JobId, Layout, OriginUrl, ServerId, Zone,
    job::{Checked, JobState, Purpose, Reason, Validator},
};

use super::askers::Who;

/// A job itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: JobId,
    pub(crate) url: OriginUrl,
    pub(crate) name: FileName,
    /// Whether the name was given, so that the origin's does not replace it.
    pub(crate) named: bool,
    pub(crate) state: JobState,
    pub(crate) reason: Option<Reason>,
    /// What the origin has; none before it was asked.
    pub(crate) content: Option<Content>,
    pub(crate) formerly: Vec<FileId>,
    /// What the content must be, and who said so.
    pub(crate) expected: Option<(Digest, Checked)>,
    /// What it is, as a holder of all of it computed.
    pub(crate) found: Option<Digest>,
    pub(crate) generation: u32,
    pub(crate) connections: u8,
    pub(crate) start_at: Timestamp,
    pub(crate) created_at: Timestamp,
    pub(crate) over_at: Option<Timestamp>,
    pub(crate) keep: bool,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) zones: Option<Vec<Zone>>,
    /// The account that asked first.
    pub(crate) owner: i64,
    /// The newest lease's number.
    pub(crate) fence: u64,
    /// Bytes that were asked for a second time: to race and to compare.
    pub(crate) wasted: u64,
    /// How far a kept result has come.
    pub(crate) shelf: Shelf,
    /// Whether every chunk was asked for again because an asker found another SHA-256.
    pub(crate) examined: bool,
    /// Whether that is still going on.
    #[serde(default)]
    pub(crate) examining: bool,
    /// A scheduled job whose time has come and whose origin could not be asked yet.
    #[serde(default)]
    pub(crate) trying: Option<Trying>,
}

/// How the beginning of a scheduled job is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trying {
    /// When it was tried first.
    pub(crate) since: Timestamp,
    /// How often it was tried.
    pub(crate) tries: u32,
    /// When it is tried next.
    pub(crate) next: Timestamp,
    /// Why it did not begin the last time.
    pub(crate) reason: Reason,
}

/// Where a kept result is on its way into the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Shelf {
    /// Not yet there.
    No,
    /// Servers are told to hold all of it.
    Assigned,
    /// It is a file of the catalogue.
    Published,
    /// Only those hold it who are to.
    Tidied,
}

/// What the origin has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    pub(crate) chunk_size: u64,
    pub(crate) validator: Validator,
    /// Scheme, host and port of whoever gives it. None in what an older version wrote down.
    #[serde(default)]
    pub(crate) origin: Option<String>,
}

impl Row {
    /// Where its connections are counted: at whom the URL names, and at whoever gives the content, if that is another one.
    pub(crate) fn origins(&self) -> Vec<String> {
        let asked = self.url.origin();
        let gives = self.content.as_ref().and_then(|content| content.origin.clone()).filter(|gives| *gives != asked);
        std::iter::once(asked).chain(gives).collect()
    }
}

impl Content {
    /// How it is cut.
    pub(crate) fn layout(&self) -> Option<Layout> {
        Layout::checked(self.size, self.chunk_size).ok()
    }
}

/// A chunk whose digest is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkRow {
    pub(crate) n: u32,
    pub(crate) sha256: Digest,
    pub(crate) first: Option<ServerId>,
    pub(crate) holder: Option<ServerId>,
    pub(crate) confirmed: bool,
}

/// What several say that a chunk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DisputeRow {
    pub(crate) n: u32,
    pub(crate) claims: Vec<ClaimRow>,
}

/// What one of them says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimRow {
    /// None: an earlier attempt at the same content.
    pub(crate) server: Option<ServerId>,
    pub(crate) sha256: Digest,
    /// Whether it holds the bytes.
    pub(crate) holds: bool,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) fence: u64,
    pub(crate) server: ServerId,
    pub(crate) about: LeaseAbout,
}

/// What a lease is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseAbout {
    pub(crate) granted: (u32, u32),
    pub(crate) end: u32,
    pub(crate) purpose: Purpose,
    pub(crate) bet: bool,
    pub(crate) connections: u8,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerRow {
    pub(crate) server: ServerId,
    pub(crate) excluded: bool,
    pub(crate) failures: u32,
    pub(crate) bytes: u64,
}

/// An asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AskerRow {
    pub(crate) who: Who,
    pub(crate) present: bool,
    /// Whether they took their wish back.
    pub(crate) left: bool,
}

/// A job as it stands in the database, or what changed of it since it was last written.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    pub(crate) job: JobId,
    pub(crate) row: Option<Row>,
    pub(crate) chunks: Vec<ChunkRow>,
    /// Chunks whose digest is no longer known.
    pub(crate) withdrawn: Vec<u32>,
    pub(crate) disputes: Vec<DisputeRow>,
    /// Chunks about which there is no dispute any more.
    pub(crate) settled: Vec<u32>,
    pub(crate) leases: Vec<LeaseRow>,
    /// Leases that are over.
    pub(crate) ended: Vec<u64>,
    pub(crate) workers: Vec<WorkerRow>,
    pub(crate) askers: Vec<AskerRow>,
    /// Askers that are not remembered any more.
    pub(crate) forgotten: Vec<Who>,
}

impl Saved {
    /// Nothing of a job.
    pub(crate) const fn nothing(job: JobId) -> Self {
        Self {
            job,
            row: None,
            chunks: Vec::new(),
            withdrawn: Vec::new(),
            disputes: Vec::new(),
            settled: Vec::new(),
            leases: Vec::new(),
            ended: Vec::new(),
            workers: Vec::new(),
            askers: Vec::new(),
            forgotten: Vec::new(),
        }
    }
}
