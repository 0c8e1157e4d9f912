//! Failures of requests to sources.

use std::{io, time::Duration};
use wire::grammar::counted;

use crate::schedule::SourceFault;

/// The failure of a request to a source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Connection(String),
    #[error("the body ended {} early", counted(.missing.to_owned(), "byte"))]
    Short { missing: u64 },
    #[error("{0}")]
    Answer(String),
    #[error("status {status}{}", after_colon(.words.as_deref()))]
    Busy { status: u16, retry_after: Option<Duration>, words: Option<String> },
    #[error("it does not hold these chunks")]
    NotHeld,
    #[error("status {status}: the token is refused{}", after_colon(.words.as_deref()))]
    Refused { status: u16, words: Option<String> },
    #[error("chunk {chunk} does not match its SHA-256")]
    WrongBytes { chunk: u32 },
    #[error("its part of chunk {chunk} differs from the verified chunk")]
    WrongPart { chunk: u32 },
    /// A failure of one of several sources, unknown which.
    #[error("chunk {chunk}, of which parts came from several sources, does not match its SHA-256")]
    WrongMixedChunk { chunk: u32 },
    /// A failure of the local storage, which ends the download.
    #[error(transparent)]
    Storage(#[from] io::Error),
}

impl Failure {
    /// Adds the words of the server that refused the request: they say what its operator is to do.
    pub(crate) fn worded(self, server_words: Option<String>) -> Self {
        match self {
            Self::Busy { status, retry_after, .. } => Self::Busy { status, retry_after, words: server_words },
            Self::Refused { status, .. } => Self::Refused { status, words: server_words },
            Self::Answer(text) => Self::Answer(format!("{text}{}", after_colon(server_words.as_deref()))),
            other => other,
        }
    }

    /// Returns what the failure says about the source.
    pub(crate) fn fault(&self) -> SourceFault {
        match self {
            Self::Connection(_) => SourceFault::Unreachable,
            Self::Short { .. } | Self::Answer(_) | Self::Storage(_) => SourceFault::Broken,
            Self::Busy { retry_after, .. } => SourceFault::Busy(*retry_after),
            Self::NotHeld => SourceFault::NotHeld,
            Self::Refused { .. } => SourceFault::TokenRefused,
            Self::WrongBytes { .. } | Self::WrongPart { .. } => SourceFault::WrongBytes,
            Self::WrongMixedChunk { .. } => SourceFault::WrongMixedChunk,
        }
    }
}

fn after_colon(words: Option<&str>) -> String {
    words.map(|words| format!(": {words}")).unwrap_or_default()
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Connection(innermost_cause(&error))
    }
}

/// Returns the text of the innermost cause, which is specific; the outer ones repeat the address.
fn innermost_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
