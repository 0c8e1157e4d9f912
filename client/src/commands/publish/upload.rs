//! One upload: plan, send, commit.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use info_client::{InfoError, UserClient};
use transfer::upload::{Published, Publisher, UploadError, UploadEvent};
use wire::{
    FileId, ServerId,
    catalogue::{CommitRequest, FileSummary, NewFile, UploadPlan},
};

use super::{
    plan::{self, PriorWork},
    targets,
    upload_note::UploadNote,
};
use crate::{
    context::Context,
    output::{print_json, status},
    progress::{Direction, Display, TransferProgress, watch_bytes},
};

/// Attempts of a commit whose quorum is late. The info-server itself waits during each.
const MAX_COMMITS: usize = 3;
/// Time for an info-server that is away to come back before the commit fails.
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);
const COMMIT_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Announces, sends and commits a file.
///
/// # Errors
/// Any failure before the file is published.
pub async fn send(
    context: &Context,
    info: &UserClient,
    file: File,
    new: &NewFile,
) -> anyhow::Result<(FileSummary, Published)> {
    resume_or_send(context, info, new, Source { file, note: None, sent: Arc::default() }).await
}

/// File to send, and the state of its upload.
pub(super) struct Source {
    pub(super) file: File,
    /// Note that makes the upload resumable.
    pub(super) note: Option<UploadNote>,
    pub(super) sent: Arc<Sent>,
}

/// Part of a file that was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Bytes that all servers hold.
    bytes: AtomicU64,
    /// Set once a server holds a chunk, also from an earlier run.
    any: AtomicBool,
}

impl Sent {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns true if a later run has something to resume.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }
}

/// Uploads as [`send`] does; with a note, resumes the upload of an earlier run and keeps a resumable state for a later one.
pub(super) async fn resume_or_send(
    context: &Context,
    info: &UserClient,
    new: &NewFile,
    source: Source,
) -> anyhow::Result<(FileSummary, Published)> {
    let Source { file, note, sent } = source;
    let choosing = plan::choose(context, info, new, note.as_ref());
    let (plan, prior) = context.cancel.run_until_cancelled(choosing).await.ok_or(UploadError::Interrupted)??;
    let resume = prior != PriorWork::Nothing;
    sent.any.store(resume, Ordering::Relaxed);
    let upload = Upload { new, plan: &plan, resume, sent: &sent };
    let outcome = upload.send_and_commit(context, info, file).await;
    match (&outcome, note) {
        (Ok(_), Some(note)) => note.remove(),
        (Err(error), Some(_)) if can_resume(error) => {}
        (Err(_), note) => {
            note.into_iter().for_each(UploadNote::remove);
            if prior != PriorWork::Commit {
                plan::abandon(info, plan.id).await;
            }
        }
        (Ok(_), None) => {}
    }
    outcome
}

/// Returns true if a later run may succeed with the same plan: not if the file changed, or its servers are full.
pub(super) fn can_resume(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(
            UploadError::Changed | UploadError::Plan { .. } | UploadError::Read(_) | UploadError::LimitTooLow { .. },
        ) => false,
        Some(error) => !targets::lack_room(error),
        None => true,
    }
}

struct Upload<'a> {
    new: &'a NewFile,
    plan: &'a UploadPlan,
    resume: bool,
    sent: &'a Arc<Sent>,
}

impl Upload<'_> {
    async fn send_and_commit(
        &self,
        context: &Context,
        info: &UserClient,
        file: File,
    ) -> anyhow::Result<(FileSummary, Published)> {
        let seen = Arc::clone(self.sent);
        let json = context.common.json;
        let publisher = Publisher {
            client: context.http()?,
            resume: self.resume,
            rate_limiter: context.rate_limiter.clone(),
            cancel: context.cancel.clone(),
            progress: Box::new(move |event| match event {
                UploadEvent::Held(bytes) => seen.bytes.store(bytes, Ordering::Relaxed),
                UploadEvent::Accepted => seen.any.store(true, Ordering::Relaxed),
                UploadEvent::LeftBehind { server, reason } => show_dropped_target(json, &server, &reason),
            }),
        };
        let display = Display::choose(json, false);
        let progress = TransferProgress::new(display, Direction::Upload, &self.new.name, Some(self.new.size));
        let display = watch_bytes(progress, || self.sent.bytes());
        let handle = file.try_clone()?;
        let published = tokio::select! {
            published = publisher.publish(file, self.plan) => published,
            never = display => match never {},
        };
        // A file that grew after its announcement fails with less telling errors.
        let published = if handle.metadata()?.len() == self.new.size { published? } else { Err(UploadError::Changed)? };
        let commit = CommitRequest { sha256: published.sha256, chunks: published.digests.clone() };
        let committed = context.cancel.run_until_cancelled(commit_with_retries(info, self.plan.id, &commit)).await;
        let summary = committed.ok_or(UploadError::Interrupted)??;
        Ok((summary, published))
    }
}

async fn commit_with_retries(info: &UserClient, id: FileId, commit: &CommitRequest) -> anyhow::Result<FileSummary> {
    let (mut attempts, began) = (1, Instant::now());
    loop {
        match info.commit(id, commit).await {
            Err(error) if error.status() == Some(409) && attempts < MAX_COMMITS => attempts += 1,
            // The servers hold the whole file: it is worth waiting for an info-server that restarts.
            Err(InfoError::Unreachable { .. }) if began.elapsed() < RESTART_TIMEOUT => {
                tokio::time::sleep(COMMIT_RETRY_PAUSE).await;
            }
            answer => return Ok(answer?),
        }
    }
}

fn show_dropped_target(json: bool, server: &ServerId, reason: &str) {
    if json {
        print_json(&serde_json::json!({ "event": "target-left-behind", "server": server, "reason": reason }));
    } else {
        status(&format!("{server} failed ({reason}): continuing with the other servers"));
    }
}
