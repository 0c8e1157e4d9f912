//! The events and the result of an upload.

use std::io;

use wire::{Digest, ServerId, grammar::counted};

/// A file that the servers hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// The SHA-256 of each chunk, in order.
    pub digests: Vec<Digest>,
    /// One entry per target, in the order of the plan.
    pub targets: Vec<TargetReport>,
}

/// The figures of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReport {
    /// The server.
    pub server: ServerId,
    /// Bytes that it accepted.
    pub sent: u64,
    /// Bytes that it held before.
    pub resumed: u64,
    /// The failure for which the upload went on without it, if any.
    pub failure: Option<String>,
}

/// The progress of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadEvent {
    /// All live targets hold this many bytes of the file. Never falls.
    Held(u64),
    /// One target accepted a chunk.
    Accepted,
    /// The upload goes on without one target.
    LeftBehind {
        /// The server.
        server: ServerId,
        /// Its failure.
        reason: String,
    },
}

/// The error of a file that was not published.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Reading the file failed.
    #[error("cannot read the file: {0}")]
    Read(io::Error),
    /// Size or modification time changed, or the bytes differ when read again.
    #[error("the file changed while it was read; publish it again when it is complete")]
    Changed,
    /// The plan was made for a file of another size.
    #[error("the chunk size of the upload plan does not fit a file of {}; publish the file again", counted(.size.to_owned(), "byte"))]
    Plan {
        /// Bytes in the file.
        size: u64,
    },
    /// The limit of the rate is lower than what servers accept.
    #[error(
        "{rate} bytes per second are too few to publish this file: servers accept no chunk that comes more slowly than {min} bytes per \
         second; raise --limit-rate"
    )]
    LimitTooLow {
        /// The limit.
        rate: u64,
        /// Lowest rate that servers accept.
        min: u64,
    },
    /// More targets failed than the quorum allows.
    #[error("{} must accept the file, and only {alive} of them still {}: {reasons}", counted(.quorum.to_owned(), "server"), if *.alive == 1 { "does" } else { "do" })]
    Quorum {
        /// Targets that still work.
        alive: usize,
        /// Targets that the commit needs.
        quorum: u32,
        /// Targets that failed.
        failed: usize,
        /// Number of them that have no space left, which does not pass by itself.
        full: usize,
        /// The failure of each failed target.
        reasons: String,
    },
    /// The upload was cancelled.
    #[error("interrupted")]
    Interrupted,
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        // The file is shorter than it was a moment ago.
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Changed } else { Self::Read(error) }
    }
}
