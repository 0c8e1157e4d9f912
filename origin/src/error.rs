//! Failures of origins.

use std::{error::Error, io, time::Duration};

use reqwest::{StatusCode, header::HeaderMap};
use wire::{OriginUrl, job::JobReason};

use crate::headers;

/// A failed request to an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.sentence())]
pub struct OriginError {
    /// The class of the failure. It holds nothing that the origin chose, so that any user may see it.
    pub reason: JobReason,
    /// The pause that the origin asked for before the next request, if any.
    pub retry_after: Option<Duration>,
    /// The obstacle, if there was no connection at all.
    pub obstacle: Option<Obstacle>,
    /// Details for logs, and for the user of a program that fetches for that user. They hold no query of a URL and nothing of a
    /// body.
    pub detail: String,
}

/// The cause of a connection that could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The name does not exist: another attempt ends the same way.
    UnknownName,
    /// The name could not be looked up: the name server may be away.
    LookupFailed,
    /// No process listens at the port.
    Refused,
}

impl OriginError {
    pub(crate) fn new(reason: JobReason, detail: impl Into<String>) -> Self {
        Self { reason, retry_after: None, obstacle: None, detail: detail.into() }
    }

    pub(crate) fn unreachable(detail: impl Into<String>) -> Self {
        Self::new(JobReason::Unreachable, detail)
    }

    pub(crate) fn garbled(detail: impl Into<String>) -> Self {
        Self::new(JobReason::Garbled, detail)
    }

    pub(crate) fn changed(detail: impl Into<String>) -> Self {
        Self::new(JobReason::Changed, detail)
    }

    /// Names the server in the details.
    pub(crate) fn at(self, url: &OriginUrl) -> Self {
        // A proxy or another address may have failed; the server is what the user knows.
        let server = url.url().host_str().unwrap_or_default();
        let port = url.url().port().map_or_else(String::new, |port| format!(":{port}"));
        Self { detail: format!("{server}{port}: {}", self.detail), ..self }
    }

    /// Classifies the status of a response that brings no content.
    pub(crate) fn from_status(status: StatusCode, headers: &HeaderMap) -> Self {
        let detail = format!("status {}", status.as_u16());
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                Self { retry_after: headers::retry_after(headers), ..Self::new(JobReason::Busy, detail) }
            }
            400..=499 => Self::new(JobReason::Refused, detail),
            _ => Self::garbled(detail),
        }
    }
}

/// The error of a name that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("there is no host {0}")]
pub(crate) struct UnknownName(pub(crate) String);

/// The error of a name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("the name {0} cannot be looked up now ({1})")]
pub(crate) struct LookupFailed(pub(crate) String, pub(crate) io::Error);

/// The error of a name that has addresses, but none from which DDM may fetch.
#[derive(Debug, thiserror::Error)]
#[error("its name has no public address")]
pub(crate) struct NoPublicAddress;

impl From<reqwest::Error> for OriginError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut reason = JobReason::Unreachable;
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(this) = cause {
            if let Some(found) = reason_of(this) {
                reason = found;
                break;
            }
            cause = this.source();
        }
        let obstacle = if error.is_connect() { obstacle(&error) } else { None };
        let detail =
            obstacle.as_ref().map_or_else(|| describe_chain(&error), |(_, cause)| wire::name::plain(cause, 300));
        Self { obstacle: obstacle.map(|(obstacle, _)| obstacle), ..Self::new(reason, detail) }
    }
}

/// Returns true if the response begins with something else than `HTTP/1.0` or `HTTP/1.1`, or has a field that cannot be read.
pub(crate) fn is_read_leniently(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(error) = this.downcast_ref::<hyper::Error>() {
            let text = error.to_string();
            return error.is_parse() && (text.contains("version") || text.contains("HTTP header"));
        }
        cause = this.source();
    }
    false
}

/// Returns the obstacle to a connection, and the words for it.
fn obstacle(error: &reqwest::Error) -> Option<(Obstacle, String)> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(found) = obstacle_of(this) {
            return Some((found, this.to_string()));
        }
        cause = this.source();
    }
    None
}

fn obstacle_of(cause: &(dyn Error + 'static)) -> Option<Obstacle> {
    if cause.is::<UnknownName>() {
        return Some(Obstacle::UnknownName);
    }
    if cause.is::<LookupFailed>() {
        return Some(Obstacle::LookupFailed);
    }
    let error = cause.downcast_ref::<io::Error>()?;
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Some(Obstacle::Refused);
    }
    // The error inside is not among the sources of one that only wraps it.
    error.get_ref().and_then(|inner| obstacle_of(inner))
}

/// Classifies one error of a chain of causes.
fn reason_of(cause: &(dyn Error + 'static)) -> Option<JobReason> {
    if cause.is::<NoPublicAddress>() {
        return Some(JobReason::NotPublic);
    }
    if cause.is::<rustls::Error>() {
        return Some(JobReason::NotSecure);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        // The error inside is not among the sources of one that only wraps it.
        return error.get_ref().and_then(|inner| reason_of(inner));
    }
    let error = cause.downcast_ref::<hyper::Error>()?;
    (error.is_parse() || error.is_parse_too_large()).then_some(JobReason::Garbled)
}

/// Formats an error and its causes in one line, without control characters and bounded: an origin chooses part of it.
pub(crate) fn describe_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let more = this.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = this.source();
    }
    wire::name::plain(&text, 300)
}
