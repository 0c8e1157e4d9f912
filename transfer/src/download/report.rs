//! What a download did.

use std::time::Duration;

use serde::Serialize;
use wire::{ServerId, Zone};

/// What a finished download did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Wall time, in seconds in JSON.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes that an earlier run had verified.
    pub resumed: u64,
    /// Verified bytes that came from sources.
    pub fetched: u64,
    /// Bytes that came from sources and were not used.
    pub wasted: u64,
    /// How often work went to another source because one failed or was slow.
    pub switches: u32,
    /// One per source.
    pub sources: Vec<SourceReport>,
}

/// What one source did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    /// The server.
    pub server: ServerId,
    /// Its zone.
    pub zone: Zone,
    /// Verified bytes it gave.
    pub bytes: u64,
    /// Its share of `fetched` in tenths of a per cent, rounded so that all shares add to 1000.
    pub share_permille: u32,
    /// Requests it was sent.
    pub requests: u32,
    /// Requests that failed.
    pub failures: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Outcome {
    /// It served as asked.
    Fine,
    /// It failed, and was not back before the end.
    Failing {
        /// How it failed last.
        reason: String,
    },
    /// It was dropped for good.
    Dropped {
        /// Why.
        reason: String,
    },
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}
