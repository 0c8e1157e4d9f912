//! Downloads one file.

mod standard_output;

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use info_client::UserClient;
use transfer::{
    download::{DownloadError, DownloadPlan, Engine, Report, Settings},
    sink::Destination,
};
use wire::{
    FileId, Zone,
    catalogue::{FileDetails, FileState, Manifest},
};

use self::standard_output::PublishedFile;
use super::file_directory::FileDirectory;
use crate::{
    cli::DownloadOptions,
    context::Context,
    destination,
    exit::Exit,
    missing_chunks,
    progress::{self, Display, ProgressFeed, ShownFile},
    sources, text,
};

/// Download of one file.
#[derive(Debug, Clone)]
pub struct FileDownload {
    /// Id of the file.
    pub file: FileId,
    /// Options of every download.
    pub options: DownloadOptions,
    /// Parallel requests per server.
    pub connections: u16,
}

/// Downloads one file and shows the outcome.
///
/// # Errors
/// As [`download`], but an interruption is an exit status.
pub(super) async fn run(context: &Context, wanted: &FileDownload) -> anyhow::Result<Exit> {
    if destination::is_to_standard_output(&wanted.options) {
        return to_standard_output(context, wanted).await;
    }
    let display = Display::choose(context.common.json, wanted.options.quiet);
    let feed = ProgressFeed::new();
    let seen = feed.progress.clone();
    match download(context, wanted, display, feed).await {
        Ok((destination, report)) => {
            progress::finish(display, &destination.path(), &report);
            Ok(Exit::Done)
        }
        Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Interrupted)) => {
            let now = seen.snapshot();
            progress::interrupted(display, &progress::Reached { done: now.bytes_done, total: Some(now.bytes_total) });
            Ok(Exit::Interrupted)
        }
        Err(error) => Err(error),
    }
}

async fn to_standard_output(context: &Context, get: &FileDownload) -> anyhow::Result<Exit> {
    standard_output::check(context)?;
    let info = context.info_server()?;
    let zone = context.common.zone.clone();
    let described = context.cancel.run_until_cancelled(describe(&info, get.file, zone.as_ref())).await;
    let Some(described) = described else { return Ok(Exit::Interrupted) };
    let (details, manifest) = described?;
    note_missing_chunks(Display::choose(false, get.options.quiet), &details);
    let directory = Box::new(FileDirectory::new(info, get.file, zone));
    let (options, connections) = (get.options.clone(), get.connections);
    standard_output::run(context, PublishedFile { details, manifest, directory, options, connections }).await
}

/// Downloads a file and shows its progress, which the caller may read as well.
///
/// # Errors
/// Any failure before the file has its name, and [`DownloadError::Interrupted`]; verified chunks are kept for the next run.
pub async fn download(
    context: &Context,
    get: &FileDownload,
    display: Display,
    feed: ProgressFeed,
) -> anyhow::Result<(Destination, Report)> {
    let ProgressFeed { progress, notices } = feed;
    let info = context.info_server()?;
    let zone = context.common.zone.clone();
    let described = context.cancel.run_until_cancelled(describe(&info, get.file, zone.as_ref())).await;
    let (details, manifest) = described.ok_or(DownloadError::Interrupted)??;
    let destination = destination::of_download(&get.options, &details.summary.name)?;
    if let Some(note) = destination::note_of_new_name(&get.options, &details.summary.name) {
        progress::note(display, "note", &note);
    }
    let shown = ShownFile::from(&details.summary);
    progress::start(display, &shown, context.trace);
    note_missing_chunks(display, &details);
    let token = details.download.context("the info-server sent no download token for this file")?;
    let plan = DownloadPlan { manifest, sources: sources::ranked(details.locations, zone.as_ref()), token };
    let engine = Engine {
        client: context.http()?,
        settings: Settings {
            connections: get.connections.into(),
            wait: get.options.wait,
            rate_limiter: context.rate_limiter.clone(),
            ..Settings::default()
        },
        directory: Arc::new(FileDirectory::new(info, get.file, zone)),
        progress: progress.clone(),
        cancel: context.cancel.clone(),
    };
    let display = progress::watch(display, shown, progress, notices);
    let report = tokio::select! {
        report = engine.download(plan, &destination) => report.map_err(|error| name_part_file(error, &destination))?,
        never = display => match never {},
    };
    Ok((destination, report))
}

/// Says which chunks no live server holds: the download comes no farther than to these.
fn note_missing_chunks(display: Display, details: &FileDetails) {
    for line in missing_chunks::lines(details.missing.as_ref()) {
        progress::note(display, "incomplete", &format!("{}: {line}", details.summary.name));
    }
}

/// Names the `.part` file of a file that was removed or of which chunks are lost: the user decides what becomes of it.
fn name_part_file(error: DownloadError, destination: &Destination) -> anyhow::Error {
    match &error {
        DownloadError::Gone { .. } => {
            anyhow::anyhow!("{error}; the incomplete download stays in {}", destination.part_path().display())
        }
        DownloadError::Lost { .. } => {
            let message = format!("{error}; all others are verified in {}", text::path(&destination.part_path()));
            anyhow::Error::from(error).context(message)
        }
        _ => error.into(),
    }
}

/// Returns the details and the manifest of a file, checked against each other.
async fn describe(info: &UserClient, file: FileId, zone: Option<&Zone>) -> anyhow::Result<(FileDetails, Manifest)> {
    let details = info.file(file, zone, true).await?;
    if details.summary.state != FileState::Available {
        bail!("{file} is not published yet: its upload is still running");
    }
    let manifest = info.manifest(file).await?;
    let is_consistent = manifest.file == file
        && details.summary.id == file
        && manifest.size == details.summary.size
        && manifest.root == details.root
        && manifest.root.is_some();
    ensure!(
        is_consistent,
        "the info-server's details and manifest of {file} contradict each other: try again, then report it to the operator"
    );
    manifest.check().context("the manifest is invalid")?;
    Ok((details, manifest))
}
