//! Verification of a joint download before the file gets its name.

use std::time::{Duration, Instant};

use tokio::time;
use tokio_util::sync::CancellationToken;
use transfer::download::{DownloadError, VerifiedFile};
use wire::{
    Digest,
    job::{Checked, JobReason, JobState},
};

use super::{job_follower::JobMonitor, outcome::ExpectedDigest};

/// Longest time for the verification of every chunk after a wrong digest.
const FULL_VERIFICATION_TIMEOUT: Duration = Duration::from_secs(180);
/// Longest time for the comparison of samples, while the info-server reports that it goes on.
const SAMPLING_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest time between two looks at the job.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Reasons why a file without a SHA-256 is unchecked: the job compared nothing, or its comparison is not known.
const NOTHING_COMPARED: &str = "no SHA-256 to compare with, and no two servers fetched the same chunk";
const COMPARISON_UNKNOWN: &str =
    "no SHA-256 to compare with, and the info-server did not confirm the comparison of samples";

/// Outcome of the verification.
pub(super) enum Verification {
    /// The file may get its name.
    Passed {
        /// Kind of verification.
        checked: Checked,
        /// Reason why the content is unchecked, if it is.
        unchecked_reason: Option<&'static str>,
        /// SHA-256, if it was computed.
        sha256: Option<Digest>,
    },
    /// The info-server withdrew digests: the chunks must be verified again.
    DigestsWithdrawn,
    /// The job ended without a result.
    JobEnded,
}

/// Verifier of the chunks that were taken in one epoch.
pub(super) struct Verifier<'a> {
    pub(super) monitor: &'a JobMonitor,
    /// SHA-256 that the user expects.
    pub(super) requested: Option<Digest>,
    /// Epoch of the digests that the chunks were verified with.
    pub(super) epoch: u64,
    /// Longest silence of the info-server.
    pub(super) max_silence: Duration,
    pub(super) cancel: &'a CancellationToken,
}

impl Verifier<'_> {
    /// Verifies a file by its SHA-256 if one is known, else by waiting until the samples of the workers are compared.
    ///
    /// # Errors
    /// When the digest differs, or on interruption.
    pub(super) async fn verify(&self, file: &VerifiedFile) -> anyhow::Result<Verification> {
        let expected = {
            let job = &self.monitor.view().job;
            let checked = if self.requested.is_some() { Some(Checked::Sha256) } else { job.checked };
            let sha256 = self.requested.or(job.sha256);
            sha256.map(|sha256| ExpectedDigest { sha256, checked: checked.unwrap_or(Checked::Unchecked) })
        };
        let Some(expected) = expected else { return self.wait_for_samples().await };
        let sha256 = file.sha256(self.cancel).await?;
        if sha256 == expected.sha256 {
            let checked = expected.checked;
            return Ok(Verification::Passed { checked, unchecked_reason: None, sha256: Some(sha256) });
        }
        match self.report_wrong_digest(sha256).await? {
            Some(other) => Ok(other),
            // Another requester gave the digest, and it may be that requester's error.
            None if self.requested.is_none()
                && expected.checked == Checked::Sha256
                && self.monitor.view().job.state.is_dead() =>
            {
                Ok(Verification::JobEnded)
            }
            None => Err(expected.mismatch(sha256)),
        }
    }

    /// Reports a wrong digest and waits for the full verification: either a worker sent wrong bytes, or the origin did. None when
    /// it was not the workers.
    async fn report_wrong_digest(&self, found: Digest) -> anyhow::Result<Option<Verification>> {
        self.monitor.report_digest(Some(found));
        let outcome = self.wait(FULL_VERIFICATION_TIMEOUT, |_| false).await;
        self.monitor.report_digest(None);
        let outcome = outcome?;
        // The job failed for this very reason: every chunk was compared, and the workers agree.
        let workers_agree = self.monitor.view().job.reason == Some(JobReason::WrongDigest);
        Ok(outcome.filter(|outcome| !(workers_agree && matches!(outcome, Verification::JobEnded))))
    }

    async fn wait_for_samples(&self) -> anyhow::Result<Verification> {
        let is_done = |state: JobState| state == JobState::Done;
        if let Some(outcome) = self.wait(SAMPLING_TIMEOUT, is_done).await? {
            return Ok(outcome);
        }
        let job = &self.monitor.view().job;
        // Without the state *done*, no comparison of samples is confirmed.
        let checked = if is_done(job.state) { job.checked } else { None };
        let reason = if checked.is_some() { NOTHING_COMPARED } else { COMPARISON_UNKNOWN };
        let checked = checked.unwrap_or(Checked::Unchecked);
        let unchecked_reason = (checked == Checked::Unchecked).then_some(reason);
        Ok(Verification::Passed { checked, unchecked_reason, sha256: None })
    }

    /// Waits until the job has an outcome or is `enough`. None in the second case, and when waiting longer is useless.
    async fn wait(&self, limit: Duration, enough: impl Fn(JobState) -> bool) -> anyhow::Result<Option<Verification>> {
        let (begun, mut last_contact, mut changes) = (Instant::now(), Instant::now(), self.monitor.changes());
        loop {
            {
                let view = self.monitor.view();
                if view.epoch != self.epoch {
                    return Ok(Some(Verification::DigestsWithdrawn));
                }
                if enough(view.job.state) {
                    return Ok(None);
                }
                if matches!(view.job.state, JobState::Direct | JobState::Failed | JobState::Stopped) {
                    return Ok(Some(Verification::JobEnded));
                }
            }
            if self.monitor.is_connected() {
                last_contact = Instant::now();
            }
            let is_silent = last_contact.elapsed() >= self.max_silence;
            if self.monitor.refusal().is_some() || is_silent || begun.elapsed() >= limit {
                return Ok(None);
            }
            let waited = self.cancel.run_until_cancelled(time::timeout(POLL_INTERVAL, changes.changed())).await;
            waited.ok_or(DownloadError::Interrupted)?.ok();
        }
    }
}
