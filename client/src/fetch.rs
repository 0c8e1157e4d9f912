//! A file of the web: fetched together with file servers, or from here alone.

mod alone;
mod confirm;
mod course;
mod directory;
mod follow;
mod known;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use transfer::download::Report;
use wire::{
    AskerId, Digest, OriginUrl,
    job::{Checked, JobInfo, Reason},
};

use crate::cli::Target;

pub(crate) use self::{alone::alone, course::together};

/// What is wanted, whichever way it comes.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// From where.
    pub(crate) url: OriginUrl,
    /// To where.
    pub(crate) target: Target,
    /// What its SHA-256 must be.
    pub(crate) sha256: Option<Digest>,
    /// Whether the job is to go on when this command ends.
    pub(crate) keep: bool,
    /// In whose name the job is asked for: another command of this account may leave it.
    pub(crate) asker: AskerId,
}

/// A file of the web that stands under its name.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fetched {
    /// Where.
    pub(crate) path: PathBuf,
    /// Bytes in it.
    pub(crate) size: u64,
    /// How it was checked.
    pub(crate) checked: Checked,
    /// Its SHA-256, if it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Digest>,
    /// Why it was fetched from here alone, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alone: Option<Why>,
    /// What each server gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<Report>,
    /// The job at the end: what each worker fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Box<JobInfo>>,
    /// Seconds that the workers saved, compared with the fastest of them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) saved_seconds: Option<f64>,
    /// How long it took, in seconds in JSON.
    #[serde(serialize_with = "seconds")]
    pub(crate) elapsed: Duration,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

/// Why a file is fetched from here alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Why {
    /// The class, if it is one that servers know.
    pub(crate) reason: Option<Reason>,
    /// A sentence for people.
    pub(crate) words: String,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { reason: Some(reason), words: reason.sentence().to_owned() }
    }
}

impl Why {
    /// One that is no server's.
    pub(crate) fn here(words: impl Into<String>) -> Self {
        Self { reason: None, words: words.into() }
    }
}

/// What is wrong with a whole that is not what it should be; both digests, because either may be the mistaken one.
pub(crate) fn differs((expected, by): (Digest, Checked), found: Digest) -> anyhow::Error {
    let who = if by == Checked::Origin { "as the origin says" } else { "as --sha256 says" };
    anyhow::anyhow!("{}: it is {found}, and should be {expected}, {who}", Reason::WrongDigest.sentence())
}

/// How a job went, as seen from here.
#[derive(Debug)]
pub(crate) enum Together {
    /// The file is here.
    Whole(Box<Fetched>),
    /// It cannot be fetched together.
    Alone(Why),
    /// The job ended although it was wanted here: it is to be asked for again.
    Again(String),
}
