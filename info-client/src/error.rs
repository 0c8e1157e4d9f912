//! Errors of an exchange with the info-server.

use std::time::Duration;

use reqwest::StatusCode;
use url::Url;
use wire::{Problem, job::JobReason, name::plain};

/// Longest text of the info-server that is shown, in characters.
const MAX_TEXT_LEN: usize = 500;

/// Failure of an exchange with the info-server.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// No answer arrived, or it was late or incomplete.
    #[error("the info-server {base} does not answer: {reason}")]
    Unreachable {
        /// Address of the info-server.
        base: Url,
        /// Cause of the failure.
        reason: String,
    },
    /// The info-server refused the request.
    #[error("{}", describe(.0))]
    Refused(Box<Problem>),
    /// The answer is not one of an info-server.
    #[error("the answer of {base} cannot be used: {reason}")]
    Unusable {
        /// Address that the answer came from.
        base: Url,
        /// HTTP status of a refusal without a problem document: something between here and the info-server may have sent it.
        status: Option<u16>,
        /// Defect of the answer.
        reason: String,
    },
}

/// Advice for a server whose certificate is not trusted. All programs have this option.
pub const CERTIFICATE_ADVICE: &str =
    "--cacert FILE (or DDM_CACERT) names the authority of the certificate, or the certificate itself, in PEM form";

impl InfoError {
    pub(crate) fn unreachable(base: &Url, reason: impl ToString) -> Self {
        Self::Unreachable { base: base.clone(), reason: reason.to_string() }
    }

    /// Cleans `reason`, which may repeat words of the answer.
    pub(crate) fn unusable(base: &Url, reason: impl ToString) -> Self {
        Self::Unusable { base: base.clone(), status: None, reason: plain(&reason.to_string(), MAX_TEXT_LEN) }
    }

    /// Returns the error of an answer that leads elsewhere. It is not followed: the login would go to another server.
    pub(crate) fn redirected(base: &Url, status: StatusCode, location: &str) -> Self {
        let location = plain(location, MAX_TEXT_LEN);
        let reason = match base.join(&location).map(|target| new_base(base, target)) {
            Ok(target) => format!("it redirects to {location}; if that is the info-server, give --info {target}"),
            Err(_) => "it redirects, and does not say where to".to_owned(),
        };
        Self::Unusable { base: base.clone(), status: Some(status.as_u16()), reason }
    }

    pub(crate) fn unusable_refusal(base: &Url, status: StatusCode) -> Self {
        Self::Unusable { base: base.clone(), status: Some(status.as_u16()), reason: format!("status {status}") }
    }

    /// Returns the status of a refusal by the info-server itself.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Unreachable { .. } | Self::Unusable { .. } => None,
        }
    }

    /// Returns the status of any refusal, with or without a problem document.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Unusable { status, .. } => *status,
            Self::Refused(_) | Self::Unreachable { .. } => self.status(),
        }
    }

    /// Returns the problem document of a refusal.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Unreachable { .. } | Self::Unusable { .. } => None,
        }
    }

    /// Returns true if the message itself says which address to use instead.
    pub fn has_advice(&self) -> bool {
        match self {
            Self::Unreachable { reason, .. } | Self::Unusable { reason, .. } => reason.contains("--info"),
            Self::Refused(_) => false,
        }
    }

    /// Returns true if no answer came because the info-server's certificate is not trusted; see [`CERTIFICATE_ADVICE`].
    pub fn is_about_certificate(&self) -> bool {
        match self {
            Self::Unreachable { reason, .. } | Self::Unusable { reason, .. } => reason.contains("certificate"),
            Self::Refused(_) => false,
        }
    }

    /// Returns the kind of fault at the origin for which a job was refused.
    pub fn origin_fault(&self) -> Option<JobReason> {
        serde_json::from_value(self.problem()?.extra.get("reason")?.clone()).ok()
    }

    /// Returns the pause that the origin asked the info-server for, with such a fault.
    pub fn origin_retry_after(&self) -> Option<Duration> {
        self.problem()?.extra.get("retry_after_s")?.as_u64().map(Duration::from_secs)
    }

    /// Returns true if the requester, or its whole account, gave this job up earlier.
    pub fn has_left(&self) -> bool {
        self.problem().is_some_and(|problem| problem.kind == "urn:ddm:problem:asker-left")
    }
}

/// Describes a refusal in one line. Its text comes from another machine and goes to a terminal or a log.
fn describe(problem: &Problem) -> String {
    let clean = |text: &str| plain(text, MAX_TEXT_LEN);
    let title = if problem.title.is_empty() { format!("status {}", problem.status) } else { clean(&problem.title) };
    if problem.detail.is_empty() { title } else { format!("{title}: {}", clean(&problem.detail)) }
}

/// Returns the innermost cause: the outer ones repeat the address.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = cause.to_string();
    let asked_for_tls = error.url().is_some_and(|url| url.scheme() == "https");
    match wrong_scheme(&cause, asked_for_tls) {
        Some(advice) => format!("{cause}; {advice}"),
        None => cause,
    }
}

/// Returns the advice for an address whose scheme is not the one that its server speaks.
fn wrong_scheme(cause: &str, asked_for_tls: bool) -> Option<&'static str> {
    match asked_for_tls {
        true if cause.contains("InvalidContentType") => Some("it does not speak TLS there: try --info http://…"),
        false if cause.contains("invalid HTTP version") => Some("it speaks something else there: try --info https://…"),
        _ => None,
    }
}

/// Returns the address of the info-server that a redirect leads to: its path without that of the request.
fn new_base(base: &Url, mut target: Url) -> Url {
    let path = target.path().split("/v1/").next().unwrap_or_default().trim_end_matches('/').to_owned();
    target.set_path(if path.is_empty() { base.path() } else { &path });
    target.set_query(None);
    target.set_fragment(None);
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_not_followed_but_its_address_is_given_as_advice() {
        let base: Url = "http://info.example.org".parse().unwrap();
        for (location, advice) in [
            ("https://info.example.org/v1/files?limit=1", Some("give --info https://info.example.org/")),
            ("https://other.example.org/ddm/v1/files", Some("give --info https://other.example.org/ddm")),
            ("/login?next=%2Fv1", Some("give --info http://info.example.org/login")),
            ("http://[", None),
        ] {
            let error = InfoError::redirected(&base, StatusCode::MOVED_PERMANENTLY, location);
            assert_eq!(error.has_advice(), advice.is_some(), "{error}");
            assert!(advice.is_none_or(|advice| error.to_string().ends_with(advice)), "{error}");
            assert_eq!(error.http_status(), Some(301));
        }
    }

    #[test]
    fn a_wrong_scheme_is_recognized_by_what_comes_back() {
        let tls = "received corrupt message of type InvalidContentType";
        for (cause, asked_for_tls, advised) in [
            (tls, true, Some("http://")),
            (tls, false, None),
            ("invalid HTTP version parsed", false, Some("https://")),
            ("Connection refused (os error 111)", true, None),
        ] {
            let advice = wrong_scheme(cause, asked_for_tls);
            assert_eq!(advice.is_some(), advised.is_some(), "{cause}");
            assert!(advised.is_none_or(|scheme| advice.is_some_and(|advice| advice.contains(scheme))), "{advice:?}");
        }
    }
}
