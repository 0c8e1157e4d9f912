//! The end of a request, and what a failure says about its source.

use std::time::Duration;

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The request verified all chunks that were left to it.
    Finished,
    /// The request was abandoned.
    Abandoned,
    /// The request failed.
    Failed(SourceFault),
}

/// The class of a failed request, as far as it concerns its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFault {
    /// No connection, or one that gives no byte of the file: the source is probed about once a second, because a pause of the
    /// server or of the network ends without notice.
    Unreachable,
    /// Body cut off, an answer to another question, or next to no bytes: the source rests.
    Broken,
    /// The source answered 429 or 5xx: it rests, at least for the time that it asked for.
    Busy(Option<Duration>),
    /// The source does not hold these chunks.
    NotHeld,
    /// The source refuses the token: it rests until there is a new one.
    TokenRefused,
    /// The source sent bytes that do not match their digest: it gets no further request.
    WrongBytes,
    /// A chunk with parts of several sources does not match its digest: it is fetched anew from one source, which shows
    /// the faulty one.
    WrongMixedChunk,
}
