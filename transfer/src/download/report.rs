//! The report of a finished download.

use std::time::Duration;

use serde::Serialize;
use wire::{ServerId, Zone};

/// The figures of a finished download.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Wall time, in seconds in JSON.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes that were verified at the start because an earlier run had left them.
    pub resumed: u64,
    /// Verified bytes that came from sources.
    pub fetched: u64,
    /// Bytes that came from sources and were discarded.
    pub wasted: u64,
    /// Number of times that chunks went to another request because a source failed or was slow.
    pub switches: u32,
    /// One entry per source.
    pub sources: Vec<SourceReport>,
}

/// The figures of one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    /// The server.
    pub server: ServerId,
    /// Its zone.
    pub zone: Zone,
    /// Bytes in chunks of this source that were verified.
    pub bytes: u64,
    /// Its share of `fetched` in tenths of a per cent, rounded so that all shares add to 1000.
    pub share_permille: u32,
    /// Requests sent to it.
    pub requests: u32,
    /// Requests that failed.
    pub failures: u32,
    /// Its state at the end.
    pub outcome: Outcome,
}

/// The state of a source at the end of a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Outcome {
    /// The source served as requested.
    Fine,
    /// The source failed and did not recover before the end.
    Failing {
        /// The last failure.
        reason: String,
    },
    /// The source was dropped for good.
    Dropped {
        /// The failure that dropped it.
        reason: String,
    },
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}
