//! Problem documents, the bodies of error responses (RFC 9457).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The kinds of problems: every `urn:ddm:problem:*` that a listener answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// The file is published, so that it is no unfinished upload.
    AlreadyPublished,
    /// A requester left the job before.
    RequesterLeft,
    /// The request cannot be parsed.
    BadRequest,
    /// The address of the request is malformed.
    BadTarget,
    /// A body ended early or was framed wrongly.
    BrokenBody,
    /// The queue of requests is full; a later one may be answered.
    Busy,
    /// Another content of the chunk is stored already.
    ChunkConflict,
    /// The file is published with other content.
    ContentFixed,
    /// The file was deleted.
    Deleted,
    /// A body does not match its digest.
    DigestMismatch,
    /// A body came without its digest.
    DigestMissing,
    /// The info-server's disk has no room.
    DiskFull,
    /// The caller lacks the right.
    Forbidden,
    /// The file server's volume has no room.
    Full,
    /// The head of the request is too large.
    HeadTooLarge,
    /// A job still makes the file.
    InJob,
    /// The server failed.
    Internal,
    /// The body does not have the form that the route takes.
    InvalidBody,
    /// A value is outside its range.
    InvalidValue,
    /// The job has no more work.
    JobOver,
    /// The account is the last open one of an admin.
    LastAdmin,
    /// A chunk does not fit the file's size and chunk size.
    Layout,
    /// A body has another length than its chunk.
    Length,
    /// The body is not JSON.
    MediaType,
    /// The address does not take the method.
    MethodNotAllowed,
    /// The file has no chunk of this number.
    NoSuchChunk,
    /// The catalogue has no such file.
    NoSuchFile,
    /// The file is not published yet.
    NotAvailable,
    /// The URL cannot be fetched.
    NotFetched,
    /// The address leads nowhere.
    NotFound,
    /// The bytes are not on this server.
    NotHeld,
    /// The server does not do what the request asks for.
    NotImplemented,
    /// No file server holds the file as an unknown one.
    NotUnknown,
    /// A precondition of the request does not hold.
    Precondition,
    /// Fewer replicas hold the content than the quorum asks for.
    QuorumMissing,
    /// The file has no such range.
    Range,
    /// Another process with this identity is live.
    SecondInstance,
    /// The lease is over.
    StaleFence,
    /// A body stopped coming.
    Stalled,
    /// The server is shutting down.
    Stopping,
    /// The info-server's database takes no writes.
    StorageFailing,
    /// The name or the id belongs to another.
    Taken,
    /// The address of the request is too long.
    TargetTooLong,
    /// The limit of failed log-ins is reached.
    Throttled,
    /// The request did not come in time.
    Timeout,
    /// Fewer file servers than needed are live, have room and fit the policy.
    TooFewServers,
    /// The body is too large.
    TooLarge,
    /// An account has too many requesters in one job.
    TooManyRequesters,
    /// An account takes part in too many jobs.
    TooManyJobs,
    /// A valid token is missing.
    Unauthorized,
    /// The file server holds no such file.
    UnknownFile,
    /// The version of HTTP is not supported.
    Version,
    /// E-mail or password is wrong.
    WrongPassword,
}

impl ProblemKind {
    /// All of them, by word.
    pub const ALL: [Self; 53] = [
        Self::AlreadyPublished,
        Self::RequesterLeft,
        Self::BadRequest,
        Self::BadTarget,
        Self::BrokenBody,
        Self::Busy,
        Self::ChunkConflict,
        Self::ContentFixed,
        Self::Deleted,
        Self::DigestMismatch,
        Self::DigestMissing,
        Self::DiskFull,
        Self::Forbidden,
        Self::Full,
        Self::HeadTooLarge,
        Self::InJob,
        Self::Internal,
        Self::InvalidBody,
        Self::InvalidValue,
        Self::JobOver,
        Self::LastAdmin,
        Self::Layout,
        Self::Length,
        Self::MediaType,
        Self::MethodNotAllowed,
        Self::NoSuchChunk,
        Self::NoSuchFile,
        Self::NotAvailable,
        Self::NotFetched,
        Self::NotFound,
        Self::NotHeld,
        Self::NotImplemented,
        Self::NotUnknown,
        Self::Precondition,
        Self::QuorumMissing,
        Self::Range,
        Self::SecondInstance,
        Self::StaleFence,
        Self::Stalled,
        Self::Stopping,
        Self::StorageFailing,
        Self::Taken,
        Self::TargetTooLong,
        Self::Throttled,
        Self::Timeout,
        Self::TooFewServers,
        Self::TooLarge,
        Self::TooManyRequesters,
        Self::TooManyJobs,
        Self::Unauthorized,
        Self::UnknownFile,
        Self::Version,
        Self::WrongPassword,
    ];

    /// Returns the word at the end of the URN.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AlreadyPublished => "already-published",
            Self::RequesterLeft => "asker-left",
            Self::BadRequest => "bad-request",
            Self::BadTarget => "bad-target",
            Self::BrokenBody => "broken-body",
            Self::Busy => "busy",
            Self::ChunkConflict => "chunk-conflict",
            Self::ContentFixed => "content-fixed",
            Self::Deleted => "deleted",
            Self::DigestMismatch => "digest-mismatch",
            Self::DigestMissing => "digest-missing",
            Self::DiskFull => "disk-full",
            Self::Forbidden => "forbidden",
            Self::Full => "full",
            Self::HeadTooLarge => "head-too-large",
            Self::InJob => "in-job",
            Self::Internal => "internal",
            Self::InvalidBody => "invalid-body",
            Self::InvalidValue => "invalid-value",
            Self::JobOver => "job-over",
            Self::LastAdmin => "last-admin",
            Self::Layout => "layout",
            Self::Length => "length",
            Self::MediaType => "media-type",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::NoSuchChunk => "no-such-chunk",
            Self::NoSuchFile => "no-such-file",
            Self::NotAvailable => "not-available",
            Self::NotFetched => "not-fetched",
            Self::NotFound => "not-found",
            Self::NotHeld => "not-held",
            Self::NotImplemented => "not-implemented",
            Self::NotUnknown => "not-unknown",
            Self::Precondition => "precondition",
            Self::QuorumMissing => "quorum-missing",
            Self::Range => "range",
            Self::SecondInstance => "second-instance",
            Self::StaleFence => "stale-fence",
            Self::Stalled => "stalled",
            Self::Stopping => "stopping",
            Self::StorageFailing => "storage-failing",
            Self::Taken => "taken",
            Self::TargetTooLong => "target-too-long",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::TooFewServers => "too-few-servers",
            Self::TooLarge => "too-large",
            Self::TooManyRequesters => "too-many-askers",
            Self::TooManyJobs => "too-many-jobs",
            Self::Unauthorized => "unauthorized",
            Self::UnknownFile => "unknown-file",
            Self::Version => "version",
            Self::WrongPassword => "wrong-password",
        }
    }
}

impl AsRef<str> for ProblemKind {
    fn as_ref(&self) -> &str {
        self.word()
    }
}

/// Problem document (RFC 9457): the body of every error response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Kind of the problem as a URN, `urn:ddm:problem:<word>`. The word is stable.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// Short description of the kind, the same in every response of the kind.
    #[serde(default)]
    pub title: String,
    /// HTTP status.
    #[serde(default)]
    pub status: u16,
    /// Cause of this occurrence, and what to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Further members, such as the numbers that did not fit.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// Makes a problem of a kind: a [`ProblemKind`], or its word.
    pub fn new(status: u16, kind: impl AsRef<str>, title: &str) -> Self {
        Self {
            kind: format!("urn:ddm:problem:{}", kind.as_ref()),
            title: title.to_owned(),
            status,
            detail: String::new(),
            extra: Map::new(),
        }
    }

    /// Returns true if it is of a kind.
    pub fn is(&self, kind: ProblemKind) -> bool {
        self.kind.strip_prefix("urn:ddm:problem:") == Some(kind.word())
    }

    /// Sets the cause of this occurrence, and what to do about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds a member for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own_and_is_found_by_it() {
        let words: Vec<&str> = ProblemKind::ALL.iter().map(|kind| kind.word()).collect();
        assert!(words.is_sorted_by(|a, b| a < b), "{words:?}");
        for kind in ProblemKind::ALL {
            let problem = Problem::new(400, kind, "A title");
            assert!(problem.kind == format!("urn:ddm:problem:{}", kind.word()) && problem.is(kind));
        }
        assert!(!Problem::new(400, "busy", "A title").is(ProblemKind::Full));
    }
}
