//! States of a job, and the reasons and checks that go with them.

use serde::{Deserialize, Serialize};

/// State of a job. A job moves forward only, with two exceptions: between *running* and *checking*, and from *done* back to
/// *running* when a worker is lost whose chunks a requester still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for its start time, or for an origin that could not be reached.
    Scheduled,
    /// Spans are being fetched.
    Running,
    /// All chunks are fetched; some are being fetched by a second worker for comparison.
    Checking,
    /// All chunks are fetched and checked as `checked` says; workers serve them until the requesters have them.
    Done,
    /// The URL cannot be fetched in parts, so the requester fetches it alone; `reason` gives the cause.
    Direct,
    /// Ended without a result; `reason` gives the cause.
    Failed,
    /// Ended because the last requester left or an admin cancelled the job.
    Stopped,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Running, Self::Checking, Self::Done, Self::Direct, Self::Failed, Self::Stopped];

    /// Returns true if nothing more is fetched in this state.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Direct | Self::Failed | Self::Stopped)
    }

    /// Returns true if a job in this state has no result and never will.
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Direct | Self::Failed | Self::Stopped)
    }

    /// Returns the word used in JSON and in the database.
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

/// Reason why a job is not fetched by file servers, or no longer. It is a fixed set of words; text from the origin is never
/// passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum JobReason {
    /// No live file server may work on the job.
    NoWorkers,
    /// The origin does not support range requests.
    NoRanges,
    /// The origin does not give the length of the content.
    UnknownLength,
    /// The origin gives no strong validator and no SHA-256 is known, so two versions of the content could be mixed unnoticed.
    NoValidator,
    /// The content is too small to be split.
    SmallFile,
    /// The content is larger than a job may be.
    TooLarge,
    /// The origin's host has no public address, or a redirect leads to a host that has none.
    NotPublic,
    /// The origin does not respond, or its name cannot be resolved.
    Unreachable,
    /// The origin's certificate is not trusted, or a redirect leads from https to http.
    NotSecure,
    /// The origin sends too many redirects, or an invalid one.
    Redirects,
    /// The origin refuses the request, with 401, 403, 404 or a similar status.
    Refused,
    /// The origin fails or is overloaded, even after retries with pauses.
    Busy,
    /// The origin's response violates HTTP.
    Garbled,
    /// The content changed while it was being fetched.
    Changed,
    /// The content does not have the expected SHA-256.
    WrongDigest,
    /// All workers failed.
    WorkersFailed,
    /// All requesters have left.
    Unwanted,
}

impl JobReason {
    /// Returns a sentence for users, without a full stop.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NoWorkers => "no live file server can fetch the file",
            Self::NoRanges => "the origin does not support range requests",
            Self::UnknownLength => "the origin does not give the length of the file",
            Self::NoValidator => {
                "the origin gives no strong validator (ETag), so two versions of the file could be mixed"
            }
            Self::SmallFile => "the file is too small to be split",
            Self::TooLarge => "the file is larger than a job may be",
            Self::NotPublic => "the address of the origin, or of a redirect, is not public",
            Self::Unreachable => "the origin cannot be reached",
            Self::NotSecure => "the connection to the origin is not secure",
            Self::Redirects => "the origin sends too many redirects or an invalid one",
            Self::Refused => "the origin refuses the request",
            Self::Busy => "the origin is overloaded or fails",
            Self::Garbled => "the origin's response violates HTTP",
            Self::Changed => "the content changed at the origin while it was fetched",
            Self::WrongDigest => "the content does not have the expected SHA-256",
            Self::WorkersFailed => "every worker failed to fetch the file",
            Self::Unwanted => "all requesters have left",
        }
    }
}

/// Evidence that a job's result was checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// SHA-256 that a requester gave.
    Sha256,
    /// SHA-256 that the origin gave.
    Origin,
    /// Sample of chunks that were fetched by two workers and compared.
    Sampled,
    /// Nothing: one worker alone fetched all chunks, so there was no second copy to compare.
    Unchecked,
}
