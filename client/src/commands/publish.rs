//! Publishes files.

mod targets;
mod unfinished;

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
use jiff::Timestamp;
use transfer::{
    info::{InfoError, InfoServer},
    upload::{Published, Publisher, Step, UploadError},
};
use wire::{
    FileId, FileName, ServerId,
    catalog::{Commit, FileState, FileSummary, NewFile, Policy, UploadPlan},
};

use self::unfinished::{Found, Unfinished};
use super::{Context, Exit, emit, replicas, say, tell};
use crate::{cli::Publish, text};

/// Tries of a commit whose quorum is late: each waits at the info-server by itself.
const COMMITS: usize = 3;
/// How long an info-server that is away may take to come back before the commit is given up.
const RESTART: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
/// Within this time every live server tells an info-server that has just started of itself.
const HEARTBEATS: Duration = Duration::from_secs(5);

/// Carries out `publish`.
///
/// # Errors
/// The first file that could not be published; those before it are.
pub async fn run(context: &Context, publish: &Publish) -> anyhow::Result<Exit> {
    ensure!(publish.name.is_none() || publish.paths.len() == 1, "--name goes with a single file");
    let mut exit = Exit::Done;
    for path in &publish.paths {
        match publish_one(context, publish, path).await {
            Ok(Exit::Done) => {}
            Ok(Exit::Interrupted) => return Ok(Exit::Interrupted),
            // It is published; only its replicas are late.
            Ok(Exit::Failed) => exit = Exit::Failed,
            Err(error) if matches!(error.downcast_ref(), Some(UploadError::Interrupted)) => {
                tell(&format!(
                    "Interrupted; {} is not published: the same command goes on from what was sent.",
                    path.display()
                ));
                return Ok(Exit::Interrupted);
            }
            Err(error) => {
                let advice = advice(&error);
                return Err(error.context(format!("cannot publish {}{advice}", path.display())));
            }
        }
    }
    Ok(exit)
}

/// What the same command does another time.
fn advice(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(error) if targets::lack_room(error) => "; the same command begins anew, where there is room",
        _ if can_go_on(error) => "; the same command goes on from what was sent",
        _ => "",
    }
}

async fn publish_one(context: &Context, publish: &Publish, path: &Path) -> anyhow::Result<Exit> {
    let (file, size) = open(path)?;
    let new = NewFile {
        name: name(publish, path)?,
        size,
        media_type: publish.media_type.clone(),
        policy: (publish.replicas.is_some() || publish.zones.is_some()).then(|| Policy {
            replicas: publish.replicas,
            zones: publish.zones.clone(),
            through: None,
        }),
        quorum: publish.quorum,
        zone: context.common.zone.clone(),
    };
    let info = context.info_server()?;
    let note = Unfinished::open(&context.common.info, path, &new, &file)?;
    let (summary, published) = send_noted(context, &info, file, (&new, note)).await?;
    outcome(context.common.json, &summary, &published);
    match publish.wait {
        None => Ok(Exit::Done),
        Some(limit) => replicas::wait(context, &info, (summary.id, None), limit).await,
    }
}

fn outcome(json: bool, summary: &FileSummary, published: &Published) {
    let targets = &published.targets;
    if json {
        let servers: Vec<_> = targets.iter().filter(|target| target.failure.is_none()).map(|t| &t.server).collect();
        let resumed = targets.iter().map(|target| target.resumed).max();
        emit(&serde_json::json!({ "event": "published", "file": summary, "servers": servers, "resumed": resumed }));
        return;
    }
    say(&format!("{}  {}  {}", summary.id, text::size(summary.size), summary.name));
    for target in targets {
        match &target.failure {
            None if target.resumed > 0 => {
                say(&format!("  on {}, {} were there already", target.server, text::size(target.resumed)));
            }
            None => say(&format!("  on {}", target.server)),
            Some(failure) => say(&format!("  not on {}: {failure}", target.server)),
        }
    }
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
    send_noted(context, info, file, (new, None)).await
}

/// As [`send`]; with a note, goes on with what an earlier try began, and leaves what a later one can go on with.
async fn send_noted(
    context: &Context,
    info: &InfoServer,
    file: File,
    (new, note): (&NewFile, Option<Unfinished>),
) -> anyhow::Result<(FileSummary, Published)> {
    let begin = begin(context, info, new, note.as_ref());
    let (plan, before) = context.cancel.run_until_cancelled(begin).await.ok_or(UploadError::Interrupted)??;
    let sent = deliver(context, info, file, (new, &plan, before != Before::Nothing)).await;
    match (&sent, note) {
        (Ok(_), Some(note)) => note.forget(),
        (Err(error), Some(_)) if can_go_on(error) => {}
        (Err(_), note) => {
            note.into_iter().for_each(Unfinished::forget);
            if before != Before::Commit {
                give_up(info, plan.id).await;
            }
        }
        (Ok(_), None) => {}
    }
    sent
}

/// Whether a second try may succeed with the same plan: anything may, unless the file is another one now or its servers
/// are full.
fn can_go_on(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(UploadError::Changed | UploadError::Plan { .. } | UploadError::Read(_)) => false,
        Some(error) => !targets::lack_room(error),
        None => true,
    }
}

/// What was done of a plan before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Some of it was sent.
    Chunks,
    /// It was committed without our hearing of it, and may be committed again. What is published is not given up.
    Commit,
}

/// The plan to follow, and what was done of it before.
async fn begin(
    context: &Context,
    info: &InfoServer,
    new: &NewFile,
    note: Option<&Unfinished>,
) -> anyhow::Result<(UploadPlan, Before)> {
    match note.and_then(|note| note.read(new)) {
        Some(Found { plan, same: true }) => match before(info, &plan).await? {
            Before::Nothing => {}
            Before::Chunks => return go_on(context, info, (new, note), plan).await,
            Before::Commit => return Ok((plan, Before::Commit)),
        },
        // The file is another one now: nobody will finish the old one.
        Some(Found { plan, same: false }) => give_up(info, plan.id).await,
        None => {}
    }
    Ok((announce(info, new, note).await?, Before::Nothing))
}

/// The plan that was begun, unless too few of its servers live and others can take their place.
async fn go_on(
    context: &Context,
    info: &InfoServer,
    (new, note): (&NewFile, Option<&Unfinished>),
    plan: UploadPlan,
) -> anyhow::Result<(UploadPlan, Before)> {
    let live = living(info, &plan).await?;
    if live >= plan.quorum {
        return Ok((plan, Before::Chunks));
    }
    let anew = match announce(info, new, note).await {
        // Nobody can: those that are away may come back.
        Err(error) if error.status() == Some(409) => return Ok((plan, Before::Chunks)),
        announced => announced?,
    };
    let (given_up, quorum) = (plan.id, plan.quorum);
    if context.common.json {
        let id = anew.id;
        emit(
            &serde_json::json!({ "event": "begun-anew", "file": id, "given_up": given_up, "live": live, "quorum": quorum }),
        );
    } else {
        tell(&format!("{} begins anew: {live} of the {quorum} servers needed live where it was begun", new.name));
    }
    give_up(info, given_up).await;
    Ok((anew, Before::Nothing))
}

/// How many targets live. One that the info-server has not heard of since it started is given a moment.
async fn living(info: &InfoServer, plan: &UploadPlan) -> Result<u32, InfoError> {
    let began = Instant::now();
    loop {
        let live = targets::living(plan, &info.servers().await?.servers);
        if live >= plan.quorum || began.elapsed() >= HEARTBEATS {
            return Ok(live);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn announce(info: &InfoServer, new: &NewFile, note: Option<&Unfinished>) -> Result<UploadPlan, InfoError> {
    let plan = info.announce(new).await?;
    if let Some(Err(error)) = note.map(|note| note.keep(new, &plan)) {
        tracing::warn!("an interrupted upload will begin anew: {error}");
    }
    Ok(plan)
}

/// What there is to go on with.
async fn before(info: &InfoServer, plan: &UploadPlan) -> Result<Before, InfoError> {
    if plan.upload.expires_at <= Timestamp::now() {
        return Ok(Before::Nothing);
    }
    match info.file(plan.id, None, false).await.map(|details| details.summary.state) {
        Ok(FileState::Uploading) => Ok(Before::Chunks),
        Ok(FileState::Available) => Ok(Before::Commit),
        Ok(FileState::Deleting) => Ok(Before::Nothing),
        Err(error) if error.status() == Some(404) => Ok(Before::Nothing),
        Err(error) => Err(error),
    }
}

/// The info-server gives it up by itself when its upload token is over; sooner is better.
async fn give_up(info: &InfoServer, file: FileId) {
    if let Err(error) = info.remove(file).await {
        tracing::warn!("the unfinished file {file} could not be removed: {error}");
    }
}

async fn deliver(
    context: &Context,
    info: &InfoServer,
    file: File,
    (new, plan, resume): (&NewFile, &UploadPlan, bool),
) -> anyhow::Result<(FileSummary, Published)> {
    let sent = Arc::new(AtomicU64::new(0));
    let seen = sent.clone();
    let json = context.common.json;
    let publisher = Publisher {
        client: context.http()?,
        resume,
        cancel: context.cancel.clone(),
        progress: Box::new(move |step| match step {
            Step::Held(bytes) => seen.store(bytes, Ordering::Relaxed),
            Step::LeftBehind { server, reason } => left_behind(json, &server, &reason),
        }),
    };
    let shown = show(json, new, &sent);
    let same = file.try_clone()?;
    let published = tokio::select! {
        published = publisher.publish(file, plan) => published,
        never = shown => match never {},
    };
    // One that grew after it was announced fails in ways that tell less.
    let published = if same.metadata()?.len() == new.size { published? } else { Err(UploadError::Changed)? };
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

fn left_behind(json: bool, server: &ServerId, reason: &str) {
    if json {
        emit(&serde_json::json!({ "event": "target-left-behind", "server": server, "reason": reason }));
    } else {
        tell(&format!("{server} is left behind ({reason}): the others go on"));
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
