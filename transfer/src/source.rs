//! A server that chunks can be taken from.

mod answer;
mod fetch;
mod partial;

use std::{io, time::Duration};

use reqwest::redirect;
use wire::catalog::Location;

pub(crate) use self::{
    fetch::{Claim, Event, Fetch},
    partial::Partials,
};
use crate::schedule::Fault;

/// How long opening a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that chunks can be taken from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which server, where, and what it holds.
    pub location: Location,
    /// How far away it is, 0 for the own zone: a source is left alone while a nearer one lives that holds the chunk.
    pub tier: u8,
}

/// The settings every client of bulk transfers needs: bounded connects, HTTP/1.1, and neither redirects nor the
/// system's proxy unless the caller adds one. Callers may add certificates or a proxy before they build it.
pub fn client_builder() -> reqwest::ClientBuilder {
    // No read time-out here: the schedule notices a stall and knows how patient to be with which source.
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only()
}

/// Why a source did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Connection(String),
    #[error("the body ended {missing} bytes early")]
    Short { missing: u64 },
    #[error("{0}")]
    Answer(String),
    #[error("status {status}")]
    Busy { status: u16, retry_after: Option<Duration> },
    #[error("it does not hold these chunks")]
    NotHeld,
    #[error("status {0}: the token is refused")]
    Refused(u16),
    #[error("chunk {chunk} does not match its SHA-256")]
    WrongBytes { chunk: u32 },
    /// Nobody's fault that is known.
    #[error("chunk {chunk}, of which parts came from several sources, does not match its SHA-256")]
    WrongParts { chunk: u32 },
    /// Not the source's fault: the download ends.
    #[error(transparent)]
    Storage(#[from] io::Error),
}

impl Failure {
    /// What it says about the source.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Connection(_) | Self::Short { .. } | Self::Answer(_) | Self::Storage(_) => Fault::Broken,
            Self::Busy { retry_after, .. } => Fault::Busy(*retry_after),
            Self::NotHeld => Fault::NotHeld,
            Self::Refused(_) => Fault::Refused,
            Self::WrongBytes { .. } => Fault::WrongBytes,
            Self::WrongParts { .. } => Fault::Unclear,
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Connection(cause(&error))
    }
}

/// The innermost cause: the one that tells something; the outer ones repeat the address.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
