//! A direct download from the origin, from the first byte to the last. After a cut it is resumed if it is the same version: by the
//! origin's strong validator, or by size, date, tag and a comparison of the last bytes held.

mod failures;
mod joint_remains;
mod requests;
mod resumption;

use std::time::{Duration, Instant};

use anyhow::bail;
use origin::{OriginError, Origins, WholeBody};
use transfer::{
    download::DownloadError,
    rate_limiter::RateLimiter,
    sink::{Destination, SequentialFile, SinkError},
};
use wire::{
    Digest,
    job::{Checked, JobReason},
};

use self::resumption::{Comparison, Comparisons};
use super::{
    outcome::{DirectReason, DownloadRequest, ExpectedDigest, FetchedFile},
    retry::RetrySchedule,
};
use crate::{
    context::Context,
    destination,
    progress::{self, Direction, Display, Reached, TransferProgress},
};

/// Restarts from the first byte, when what is held cannot be resumed.
const MAX_RESTARTS: u32 = 5;
/// Compared bytes that count as one byte received: the attempts at one comparison are bounded by it.
const MIN_COMPARED_PROGRESS: u64 = 64 << 10;

/// Downloads a URL from the origin and shows the reason.
///
/// # Errors
/// Any failure before the file has its name; a resumable part is kept.
pub(crate) async fn direct(
    context: &Context,
    request: &DownloadRequest,
    reason: DirectReason,
    display: Display,
) -> anyhow::Result<FetchedFile> {
    progress::show_direct_reason(display, &reason);
    let started = Instant::now();
    let origins = context.origins(&request.origin)?;
    let origins = if request.sha256.is_some() { origins.with_known_digest() } else { origins };
    let mut download = DirectDownload {
        request,
        origins,
        rate_limiter: context.rate_limiter.clone(),
        display,
        part: None,
        size: None,
        restarts: 0,
        comparisons: Comparisons::default(),
        compared_len: 0,
        is_distrusted: false,
        do_tags_differ: false,
        is_joined: false,
        are_remains_shown: false,
        shown: None,
    };
    let outcome = context.cancel.run_until_cancelled(download.run(&reason)).await;
    if let Some(part) = &mut download.part {
        part.file.save();
    }
    let Some(outcome) = outcome else {
        let reached = Reached { done: download.kept(), total: download.size };
        return Err(anyhow::Error::from(DownloadError::Interrupted).context(reached));
    };
    let Verified { destination, size, digest } = outcome?;
    let unchecked_reason = (digest.checked == Checked::Unchecked).then_some(if download.is_joined {
        "no SHA-256 to compare with; after a cut the rest was added because size, date, tag and the last bytes held were the same"
    } else {
        "no SHA-256 to compare with"
    });
    let elapsed = started.elapsed();
    Ok(FetchedFile {
        path: destination.path(),
        size,
        checked: digest.checked,
        unchecked_reason,
        sha256: Some(digest.sha256),
        direct: Some(reason),
        report: None,
        job: None,
        elapsed,
    })
}

struct DirectDownload<'a> {
    request: &'a DownloadRequest,
    origins: Origins,
    rate_limiter: RateLimiter,
    display: Display,
    part: Option<Part>,
    /// Size of the file, if the origin gave it.
    size: Option<u64>,
    restarts: u32,
    comparisons: Comparisons,
    /// Bytes compared so far, in all comparisons.
    compared_len: u64,
    /// Set once a comparison failed: the bytes held are of another version.
    is_distrusted: bool,
    /// Set once the origin gave another strong tag for content of the same size and date.
    do_tags_differ: bool,
    /// Set once bytes were added after a comparison.
    is_joined: bool,
    /// Set once the user was told what becomes of the chunks that a joint download left.
    are_remains_shown: bool,
    /// The failure that was shown last.
    shown: Option<OriginError>,
}

/// Incomplete file.
struct Part {
    file: SequentialFile,
    destination: Destination,
}

/// Open response.
struct OpenBody {
    body: WholeBody,
    /// Set if it begins with bytes to compare.
    is_compared: bool,
}

/// Complete file under its name.
struct Verified {
    destination: Destination,
    size: u64,
    digest: ExpectedDigest,
}

/// Failure of one attempt.
enum AttemptError {
    /// The origin did not deliver the whole file.
    Origin(OriginError),
    /// The file cannot be stored.
    Local(anyhow::Error),
}

impl From<SinkError> for AttemptError {
    fn from(error: SinkError) -> Self {
        Self::Local(DownloadError::from(error).into())
    }
}

impl From<OriginError> for AttemptError {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

impl DirectDownload<'_> {
    async fn run(&mut self, reason: &DirectReason) -> anyhow::Result<Verified> {
        let mut schedule = RetrySchedule::new(self.request.options.wait, Instant::now());
        if let Some(pause) = reason.retry_after {
            // The origin asked the info-server for it.
            let busy = failure(JobReason::Busy, Some(pause), "it asks for a pause");
            self.pause(&mut schedule, &busy, reason).await?;
        }
        let mut progressed = self.progressed();
        loop {
            let (received, compared_len) = (self.received(), self.compared_len);
            let error = match self.attempt().await {
                Ok(origin_sha256) => return self.finish(origin_sha256),
                Err(AttemptError::Local(error)) => return Err(error),
                Err(AttemptError::Origin(error)) => error,
            };
            tracing::debug!(%error, "a direct download broke off");
            let gained = self.received().saturating_sub(received);
            self.comparisons.are_cut |= self.compared_len - compared_len > gained && !self.is_distrusted;
            if self.progressed() > progressed {
                schedule.note_progress(Instant::now());
            }
            progressed = self.progressed();
            self.pause(&mut schedule, &error, reason).await?;
        }
    }

    /// Returns the number of bytes that the next run need not fetch again.
    fn kept(&self) -> u64 {
        self.part.as_ref().and_then(|part| part.file.held()).map_or(0, |held| held.len)
    }

    fn received(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.file.received())
    }

    /// Returns the bytes that attempts have received or compared; it falls when a download begins anew. Few compared bytes are no
    /// progress: a comparison has an end, too.
    fn progressed(&self) -> u64 {
        self.received().saturating_add(self.compared_len / MIN_COMPARED_PROGRESS)
    }

    /// Makes one request, or few, and reads the body to its end. Returns the SHA-256 that the origin gives.
    async fn attempt(&mut self) -> Result<Option<Digest>, AttemptError> {
        self.reopen_part();
        self.note_joint_remains();
        let mut open = self.request_body().await?;
        if self.part.is_none() {
            let destination =
                destination::of_download(&self.request.options, &open.body.name).map_err(AttemptError::Local)?;
            let file = SequentialFile::open_url(&destination, &self.request.url)?;
            self.part = Some(Part { file, destination });
            self.note_joint_remains();
            // An earlier run left bytes of the same version: the rest is enough. The first response stays open meanwhile, because a
            // link that works once gives no second one.
            if let Some(resumption) = self.resumption().filter(|it| it.may_continue(&open.body))
                && let Ok(Some(rest)) = self.resume(resumption).await
            {
                open = rest;
            }
        }
        self.receive(open).await
    }

    async fn receive(&mut self, open: OpenBody) -> Result<Option<Digest>, AttemptError> {
        let OpenBody { mut body, is_compared } = open;
        let first = if is_compared { self.compare(&mut body).await? } else { None };
        let held = self.received();
        if !is_compared && body.start == 0 && held > 0 {
            self.restarts += 1;
            self.note_discarded(held);
        }
        let Some(Part { file, destination }) = &mut self.part else { return Ok(None) };
        let start = if is_compared { file.received() } else { body.start };
        self.size = body.size;
        if let Some(size) = body.size {
            file.check_room(size.saturating_sub(start))?;
        }
        // The head of a part need not state all that the head of the whole stated (RFC 9110 §15.3.7).
        let known = file.held().map(|held| held.evidence).filter(|known| start > 0 && known.size.is_some());
        file.start_version(start, body.validator.clone(), known.unwrap_or_else(|| body.evidence.clone()))?;
        self.is_joined |= is_compared;
        if start == 0 {
            (self.is_distrusted, self.is_joined) = (false, false);
        }
        let mut progress = TransferProgress::new(self.display, Direction::Download, &destination.name, body.size);
        progress = progress.resumed(start);
        let mut next = first;
        while let Some(bytes) = match next.take() {
            Some(bytes) => Some(bytes),
            None => body.body.next().await?,
        } {
            for part in bytes.chunks(self.rate_limiter.total_batch_size().unwrap_or(bytes.len()).max(1)) {
                self.rate_limiter.acquire_total(part.len()).await;
                file.append(part)?;
                progress.show(file.received());
            }
        }
        Ok(body.sha256)
    }

    /// Compares the first bytes of a body with those held; returns the first bytes that follow these.
    async fn compare(&mut self, body: &mut WholeBody) -> Result<Option<bytes::Bytes>, AttemptError> {
        let Some(Part { file, .. }) = &self.part else { return Ok(None) };
        let (held, mut at) = (file.received(), body.start);
        while at < held {
            let Some(mut bytes) = body.body.next().await? else { break };
            let left = usize::try_from(held - at).unwrap_or(usize::MAX);
            let overlap = bytes.split_to(bytes.len().min(left));
            if !file.holds(at, &overlap)? {
                self.is_distrusted = true;
                self.restarts += 1;
                return Err(failure(JobReason::Changed, None, "the last bytes held are others now").into());
            }
            let len = u64::try_from(overlap.len()).unwrap_or(u64::MAX);
            at = at.saturating_add(len);
            self.compared_len = self.compared_len.saturating_add(len);
            self.comparisons.last = Some(Comparison { held, up_to: at });
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Compares the file with its expected digest and gives it its name.
    fn finish(&mut self, origin_sha256: Option<Digest>) -> anyhow::Result<Verified> {
        let Some(Part { file, destination }) = self.part.take() else { bail!("the origin sent nothing") };
        let found = file.sha256();
        let digest = match (self.request.sha256, origin_sha256) {
            (Some(sha256), _) => ExpectedDigest { sha256, checked: Checked::Sha256 },
            (None, Some(sha256)) => ExpectedDigest { sha256, checked: Checked::Origin },
            (None, None) => ExpectedDigest { sha256: found, checked: Checked::Unchecked },
        };
        if found != digest.sha256 {
            // Nothing of a wrong file is worth resuming.
            file.discard();
            return Err(digest.mismatch(found));
        }
        let size = file.received();
        file.finish().map_err(DownloadError::from)?;
        Ok(Verified { destination, size, digest })
    }
}

fn failure(reason: JobReason, retry_after: Option<Duration>, detail: &str) -> OriginError {
    OriginError { reason, retry_after, obstacle: None, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests;
