//! Publishes files.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use transfer::{
    info::{InfoError, InfoServer},
    upload::{Published, Publisher, UploadError},
};
use wire::{
    FileId, FileName,
    catalog::{Commit, FileSummary, NewFile, Policy, UploadPlan},
};

use super::{Context, Exit, emit, say, tell};
use crate::{cli::Publish, text};

/// Tries of a commit whose quorum is late: each waits at the info-server by itself.
const COMMITS: usize = 3;
/// How long an info-server that is away may take to come back before the commit is given up.
const RESTART: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out `publish`.
///
/// # Errors
/// The first file that could not be published; those before it are.
pub async fn run(context: &Context, publish: &Publish) -> anyhow::Result<Exit> {
    ensure!(publish.name.is_none() || publish.paths.len() == 1, "--name goes with a single file");
    for path in &publish.paths {
        match publish_one(context, publish, path).await {
            Ok(()) => {}
            Err(error) if matches!(error.downcast_ref(), Some(UploadError::Interrupted)) => {
                tell(&format!("Interrupted; {} is not published.", path.display()));
                return Ok(Exit::Interrupted);
            }
            Err(error) => return Err(error.context(format!("cannot publish {}", path.display()))),
        }
    }
    Ok(Exit::Done)
}

async fn publish_one(context: &Context, publish: &Publish, path: &Path) -> anyhow::Result<()> {
    let (file, size) = open(path)?;
    let new = NewFile {
        name: name(publish, path)?,
        size,
        media_type: publish.media_type.clone(),
        policy: publish.replicas.map(|replicas| Policy { replicas: Some(replicas), ..Policy::default() }),
        quorum: publish.quorum,
    };
    let info = context.info_server()?;
    let (summary, published) = send(context, &info, file, &new).await?;
    if context.common.json {
        let targets: Vec<_> =
            published.targets.iter().filter(|target| target.failure.is_none()).map(|t| &t.server).collect();
        emit(&serde_json::json!({ "event": "published", "file": summary, "servers": targets }));
    } else {
        say(&format!("{}  {}  {}", summary.id, text::size(summary.size), summary.name));
        for target in published.targets {
            match target.failure {
                None => say(&format!("  on {}", target.server)),
                Some(failure) => say(&format!("  not on {}: {failure}", target.server)),
            }
        }
    }
    Ok(())
}

/// Announces, sends, commits.
///
/// # Errors
/// Whatever kept the file from being published.
pub async fn send(
    context: &Context,
    info: &InfoServer,
    file: File,
    new: &NewFile,
) -> anyhow::Result<(FileSummary, Published)> {
    let plan = context.cancel.run_until_cancelled(info.announce(new)).await.ok_or(UploadError::Interrupted)??;
    let sent = deliver(context, info, file, (new, &plan)).await;
    if sent.is_err()
        && let Err(error) = info.remove(plan.id).await
    {
        // The info-server gives it up by itself when its upload token is over.
        tracing::warn!("the unfinished file {} could not be removed: {error}", plan.id);
    }
    sent
}

async fn deliver(
    context: &Context,
    info: &InfoServer,
    file: File,
    (new, plan): (&NewFile, &UploadPlan),
) -> anyhow::Result<(FileSummary, Published)> {
    let sent = Arc::new(AtomicU64::new(0));
    let seen = sent.clone();
    let publisher = Publisher {
        client: context.http()?,
        resume: false,
        cancel: context.cancel.clone(),
        progress: Box::new(move |bytes| seen.store(bytes, Ordering::Relaxed)),
    };
    let shown = show(context.common.json, new, &sent);
    let published = tokio::select! {
        published = publisher.publish(file, plan) => published?,
        never = shown => match never {},
    };
    let commit = Commit { sha256: published.sha256, chunks: published.digests.clone() };
    let committed = context.cancel.run_until_cancelled(commit_patiently(info, plan.id, &commit)).await;
    let summary = committed.ok_or(UploadError::Interrupted)??;
    Ok((summary, published))
}

async fn commit_patiently(info: &InfoServer, id: FileId, commit: &Commit) -> anyhow::Result<FileSummary> {
    let (mut tried, began) = (1, Instant::now());
    loop {
        match info.commit(id, commit).await {
            Err(error) if error.status() == Some(409) && tried < COMMITS => tried += 1,
            // The servers hold everything: an info-server that restarts is worth waiting for.
            Err(InfoError::Unreachable { .. }) if began.elapsed() < RESTART => tokio::time::sleep(PAUSE).await,
            other => return Ok(other?),
        }
    }
}

async fn show(json: bool, new: &NewFile, sent: &AtomicU64) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let bytes = sent.load(Ordering::Relaxed);
        let percent = text::whole_percent(bytes, new.size);
        if json {
            emit(&serde_json::json!({ "event": "sent", "bytes": bytes, "bytes_total": new.size, "percent": percent }));
        } else {
            tell(&format!("{}: {} of {} sent, {percent} %", new.name, text::size(bytes), text::size(new.size)));
        }
    }
}

fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    // Not blocking: opening a pipe would wait for its other end.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().try_into()?;
    let file = File::options().read(true).custom_flags(flags).open(path).context("cannot open it")?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("only plain files can be published; pack a folder into an archive first");
    }
    Ok((file, metadata.len()))
}

fn name(publish: &Publish, path: &Path) -> anyhow::Result<FileName> {
    if let Some(name) = &publish.name {
        return Ok(name.clone());
    }
    let text = path.file_name().and_then(|name| name.to_str()).context("its name is not text: give one with --name")?;
    text.parse().context("its name cannot be used: give another with --name")
}
