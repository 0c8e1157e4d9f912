//! Whether what was taken together is what it should be, before it gets its name.

use std::time::{Duration, Instant};

use tokio::time;
use tokio_util::sync::CancellationToken;
use transfer::download::{Complete, DownloadError};
use wire::{
    Digest,
    job::{Checked, JobState, Reason},
};

use super::{differs, follow::Shared};

/// How long the check of every chunk, after a wrong digest, may take.
const FULL_CHECK: Duration = Duration::from_secs(180);
/// How long the comparison of a sample may take while the info-server says that it goes on.
const SAMPLE: Duration = Duration::from_secs(600);
/// How often one looks, whether or not anything was heard.
const LOOK: Duration = Duration::from_millis(500);

/// What is to be done with what was taken.
pub(super) enum Confirmed {
    /// It may have its name.
    Yes {
        /// How it was checked.
        checked: Checked,
        /// Its SHA-256, if it was computed.
        sha256: Option<Digest>,
    },
    /// Digests were withdrawn.
    Anew,
    /// The job ended without a result.
    Over,
}

/// Confirms what was taken in `epoch`: by the SHA-256 of the whole if one is known, else by waiting for the comparison of
/// the workers' samples.
///
/// # Errors
/// When it is not what it should be, or when interrupted.
pub(super) async fn confirm(
    shared: &Shared,
    complete: &Complete,
    (asked, epoch): (Option<Digest>, u64),
    wait: Duration,
    cancel: &CancellationToken,
) -> anyhow::Result<Confirmed> {
    let (expected, checked) = {
        let job = &shared.known().job;
        (
            asked.or(job.sha256),
            if asked.is_some() { Checked::Sha256 } else { job.checked.unwrap_or(Checked::Unchecked) },
        )
    };
    let Some(expected) = expected else { return sampled(shared, epoch, wait, cancel).await };
    let sha256 = complete.sha256(cancel).await?;
    if sha256 == expected {
        return Ok(Confirmed::Yes { checked, sha256: Some(sha256) });
    }
    match wrong(shared, (sha256, epoch), wait, cancel).await? {
        Some(other) => Ok(other),
        // Another asker named it, and it is theirs to be wrong.
        None if asked.is_none() && checked == Checked::Sha256 && shared.known().job.state.is_dead() => {
            Ok(Confirmed::Over)
        }
        None => Err(differs((expected, checked), sha256)),
    }
}

/// The whole is not what it should be: some worker lies, or the origin does. None when it is not the workers.
async fn wrong(
    shared: &Shared,
    (found, epoch): (Digest, u64),
    wait: Duration,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<Confirmed>> {
    shared.found(Some(found));
    let checked = until(shared, epoch, (wait, FULL_CHECK), cancel, |_| false).await;
    shared.found(None);
    let end = checked?;
    // Failed because of this very thing: every chunk was compared, and the workers agree.
    let agreed = shared.known().job.reason == Some(Reason::WrongDigest);
    Ok(end.filter(|end| !(agreed && matches!(end, Confirmed::Over))))
}

async fn sampled(shared: &Shared, epoch: u64, wait: Duration, cancel: &CancellationToken) -> anyhow::Result<Confirmed> {
    let done = |state: JobState| state == JobState::Done;
    if let Some(end) = until(shared, epoch, (wait, SAMPLE), cancel, done).await? {
        return Ok(end);
    }
    let job = &shared.known().job;
    // Not done: nobody said that the comparison was right.
    let checked = if done(job.state) { job.checked } else { None };
    Ok(Confirmed::Yes { checked: checked.unwrap_or(Checked::Unchecked), sha256: None })
}

/// Waits until the job comes to something, is `enough`, or until there is no use in waiting: then none.
async fn until(
    shared: &Shared,
    epoch: u64,
    (silent, longest): (Duration, Duration),
    cancel: &CancellationToken,
    enough: impl Fn(JobState) -> bool,
) -> anyhow::Result<Option<Confirmed>> {
    let (begun, mut heard, mut changes) = (Instant::now(), Instant::now(), shared.changes());
    loop {
        {
            let known = shared.known();
            if known.epoch != epoch {
                return Ok(Some(Confirmed::Anew));
            }
            if enough(known.job.state) {
                return Ok(None);
            }
            if matches!(known.job.state, JobState::Direct | JobState::Failed | JobState::Stopped) {
                return Ok(Some(Confirmed::Over));
            }
        }
        if shared.hears() {
            heard = Instant::now();
        }
        if shared.gone().is_some() || heard.elapsed() >= silent || begun.elapsed() >= longest {
            return Ok(None);
        }
        let waited = cancel.run_until_cancelled(time::timeout(LOOK, changes.changed())).await;
        waited.ok_or(DownloadError::Interrupted)?.ok();
    }
}
