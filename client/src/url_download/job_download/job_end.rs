//! The outcome for a job that ended without a result.

use std::sync::atomic::Ordering;

use anyhow::bail;
use wire::job::{Checked, JobReason, JobState};

use super::JobDownload;
use crate::url_download::outcome::JointOutcome;

impl JobDownload<'_> {
    /// Returns the outcome for a job that ended without a result. None while it goes on, and after a result.
    pub(super) fn outcome_of_end(&self) -> anyhow::Result<Option<JointOutcome>> {
        let (state, reason, id, is_foreign_digest) = {
            let job = &self.monitor.view().job;
            let is_foreign_digest = job.checked == Some(Checked::Sha256) && job.sha256 != self.request.sha256;
            (job.state, job.reason, job.id, is_foreign_digest)
        };
        let restart = |reason: &str| Ok(Some(JointOutcome::Restart(reason.to_owned())));
        let go_direct = |default: JobReason| Ok(Some(JointOutcome::GoDirect(reason.unwrap_or(default).into())));
        match (state, reason) {
            (JobState::Direct, _) => go_direct(JobReason::NoRanges),
            (JobState::Failed, Some(JobReason::WrongDigest)) if is_foreign_digest => {
                restart("the content differs from another requester's --sha256")
            }
            // Servers behind one name may make different tags of the same content: the SHA-256 decides.
            (JobState::Failed, Some(JobReason::Changed)) if self.request.sha256.is_some() => {
                go_direct(JobReason::Changed)
            }
            (JobState::Failed, Some(reason @ (JobReason::Changed | JobReason::WrongDigest))) => {
                bail!("{}; start again to download the current version", reason.sentence())
            }
            (JobState::Failed, _) => go_direct(JobReason::WorkersFailed),
            (JobState::Stopped, _) if self.has_begun.load(Ordering::Relaxed) => {
                restart("its request was withdrawn, or no progress report arrived for a while")
            }
            (JobState::Stopped, _) => bail!("job {id} was cancelled"),
            (JobState::Scheduled | JobState::Running | JobState::Checking | JobState::Done, _) => Ok(None),
        }
    }
}
