//! What goes wrong at an origin.

use std::{error::Error, io, time::Duration};

use reqwest::{StatusCode, header::HeaderMap};
use wire::job::Reason;

use crate::{field, names::NotAdmitted};

/// Why an origin did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.sentence())]
pub struct Fault {
    /// The class, which anybody may see.
    pub reason: Reason,
    /// When it may be asked again, if it said so.
    pub retry_after: Option<Duration>,
    /// More of it, for logs only. It holds no query and nothing of a body.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, retry_after: None, detail: detail.into() }
    }

    pub(crate) fn unreachable(detail: impl Into<String>) -> Self {
        Self::new(Reason::Unreachable, detail)
    }

    pub(crate) fn garbled(detail: impl Into<String>) -> Self {
        Self::new(Reason::Garbled, detail)
    }

    pub(crate) fn changed(detail: impl Into<String>) -> Self {
        Self::new(Reason::Changed, detail)
    }

    /// What an answer's status says, when it is not one that brings content.
    pub(crate) fn of_status(status: StatusCode, headers: &HeaderMap) -> Self {
        let detail = format!("status {}", status.as_u16());
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                Self { retry_after: field::retry_after(headers), ..Self::new(Reason::Busy, detail) }
            }
            400..=499 => Self::new(Reason::Refused, detail),
            _ => Self::garbled(detail),
        }
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let detail = chain(&error);
        let mut reason = Reason::Unreachable;
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(this) = cause {
            if let Some(found) = class(this) {
                reason = found;
                break;
            }
            cause = this.source();
        }
        Self::new(reason, detail)
    }
}

/// What one cause among others tells.
fn class(cause: &(dyn Error + 'static)) -> Option<Reason> {
    if cause.is::<NotAdmitted>() {
        return Some(Reason::NotPublic);
    }
    if cause.is::<rustls::Error>() {
        return Some(Reason::NotSecure);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        // The error inside is not among the sources of one that only wraps it.
        return error.get_ref().and_then(|inner| class(inner));
    }
    let error = cause.downcast_ref::<hyper::Error>()?;
    (error.is_parse() || error.is_parse_too_large()).then_some(Reason::Garbled)
}

/// An error and its causes in one line, without control characters and bounded: an origin chooses part of it.
fn chain(error: &dyn Error) -> String {
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
