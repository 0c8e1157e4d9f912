//! Requests and results of URL downloads.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use transfer::download::Report;
use wire::{
    Digest, OriginUrl, RequesterId,
    job::{Checked, JobInfo, JobReason},
};

use crate::cli::{DownloadOptions, OriginOptions};

/// Request of the user for a URL.
#[derive(Debug, Clone)]
pub(crate) struct DownloadRequest {
    pub(crate) url: OriginUrl,
    pub(crate) options: DownloadOptions,
    /// Expected SHA-256.
    pub(crate) sha256: Option<Digest>,
    /// Set if the job continues when this command ends.
    pub(crate) keep: bool,
    /// Requester of the job; it leaves the job apart from other commands of the account.
    pub(crate) requester: RequesterId,
    /// Options of a direct download.
    pub(crate) origin: OriginOptions,
}

/// Complete download of a URL.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FetchedFile {
    pub(crate) path: PathBuf,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Kind of verification.
    pub(crate) checked: Checked,
    /// Reason why the content is unchecked, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unchecked_reason: Option<&'static str>,
    /// SHA-256, if it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Digest>,
    /// Reason for a direct download.
    #[serde(rename = "alone", skip_serializing_if = "Option::is_none")]
    pub(crate) direct: Option<DirectReason>,
    /// Report of the download engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<Report>,
    /// Final state of the job, with the chunks of each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Box<JobInfo>>,
    /// Duration; seconds in JSON.
    #[serde(serialize_with = "seconds")]
    pub(crate) elapsed: Duration,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

/// Reason for a direct download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DirectReason {
    /// Reason of the info-server, if it gave one.
    pub(crate) reason: Option<JobReason>,
    /// Clause for people.
    #[serde(rename = "words")]
    pub(crate) text: String,
    /// Pause that the origin asked the info-server for.
    #[serde(skip)]
    pub(crate) retry_after: Option<Duration>,
    /// Set if the info-server or file servers have requested the URL, so that a link that works once is used up.
    #[serde(skip)]
    pub(crate) was_requested_before: bool,
}

impl From<JobReason> for DirectReason {
    fn from(reason: JobReason) -> Self {
        let text = reason.sentence().to_owned();
        Self { reason: Some(reason), text, retry_after: None, was_requested_before: true }
    }
}

impl DirectReason {
    /// Returns a reason that the client itself found.
    pub(crate) fn local(text: impl Into<String>) -> Self {
        Self { reason: None, text: text.into(), retry_after: None, was_requested_before: false }
    }
}

/// SHA-256 that a file must have, and its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpectedDigest {
    pub(crate) sha256: Digest,
    pub(crate) checked: Checked,
}

impl ExpectedDigest {
    /// Returns the error of a file with another digest. It names both digests: either may be the wrong one.
    pub(crate) fn mismatch(self, found: Digest) -> anyhow::Error {
        let source = if self.checked == Checked::Origin { "given by the origin" } else { "given with --sha256" };
        let Self { sha256, .. } = self;
        anyhow::anyhow!("{}: expected {sha256} ({source}), got {found}", JobReason::WrongDigest.sentence())
    }
}

/// Outcome of a joint download.
#[derive(Debug)]
pub(crate) enum JointOutcome {
    /// The file is complete.
    Complete(Box<FetchedFile>),
    /// The job cannot deliver the file.
    GoDirect(DirectReason),
    /// The job ended although it was wanted; it must be requested again.
    Restart(String),
}
