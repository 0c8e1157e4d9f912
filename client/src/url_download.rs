//! Downloads of a URL: jointly with file servers, or directly from the origin.

mod direct;
mod job_directory;
mod job_download;
mod job_follower;
mod job_view;
mod outcome;
mod retry;
mod verification;

pub(crate) use self::{
    direct::direct,
    job_download::joint,
    outcome::{DirectReason, DownloadRequest, FetchedFile, JointOutcome},
};
