//! Downloads one file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use tokio::sync::mpsc::Receiver;
use transfer::{
    download::{Directory, DownloadError, Ended, Engine, Job, Report, Settings, Update, Why},
    info::{InfoError, InfoServer},
    progress::{Notice, Progress},
    sink::Place,
    source::Source,
};
use wire::{
    FileId, FileName, Zone,
    catalog::{FileDetails, FileState, Location, Manifest},
};

use super::{Context, Exit};
use crate::{
    cli::{Get, Target},
    progress::{self, Display, Shown},
};

/// Carries out `get`.
///
/// # Errors
/// Whatever kept the file from standing under its name; what was verified is kept for the next try.
pub async fn run(context: &Context, get: &Get) -> anyhow::Result<Exit> {
    let display = Display::choose(context.common.json, get.target.quiet);
    match fetch(context, get, display, Progress::new()).await {
        Ok((place, report)) => {
            progress::finish(display, &place.path(), &report);
            Ok(Exit::Done)
        }
        Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Interrupted)) => {
            progress::interrupted(display);
            Ok(Exit::Interrupted)
        }
        Err(error) => Err(error),
    }
}

/// Downloads and shows it; the caller may look at the progress too.
///
/// # Errors
/// As [`run`], and [`DownloadError::Interrupted`].
pub async fn fetch(
    context: &Context,
    get: &Get,
    display: Display,
    (progress, notices): (Progress, Receiver<Notice>),
) -> anyhow::Result<(Place, Report)> {
    let info = context.info_server()?;
    let zone = context.common.zone.clone();
    let asked = context.cancel.run_until_cancelled(ask(&info, get.file, zone.as_ref())).await;
    let (details, manifest) = asked.ok_or(DownloadError::Interrupted)??;
    let place = place(&get.target, &details.summary.name)?;
    let shown = Shown::from(&details.summary);
    progress::start(display, &shown, context.trace);
    let token = details.download.context("the info-server gave no token for this file")?;
    let job = Job { manifest, sources: sources(details.locations, zone.as_ref()), token };
    let engine = Engine {
        client: context.http()?,
        settings: Settings { connections: get.connections.into(), wait: get.target.wait, ..Settings::default() },
        directory: Arc::new(InfoDirectory { info, file: get.file, zone }),
        progress: progress.clone(),
        cancel: context.cancel.clone(),
    };
    let shown = progress::watch(display, shown, progress, notices);
    let report = tokio::select! {
        report = engine.download(job, &place) => report.map_err(|error| explain(error, &place))?,
        never = shown => match never {},
    };
    Ok((place, report))
}

/// A file that is gone cannot be finished; what was fetched is nevertheless the user's to remove.
fn explain(error: DownloadError, place: &Place) -> anyhow::Error {
    match &error {
        DownloadError::Gone { .. } => {
            anyhow::anyhow!("{error}; what was fetched of it is kept in {}", place.part_path().display())
        }
        _ => error.into(),
    }
}

/// Details and manifest, checked against each other.
async fn ask(info: &InfoServer, file: FileId, zone: Option<&Zone>) -> anyhow::Result<(FileDetails, Manifest)> {
    let details = info.file(file, zone, true).await?;
    if details.summary.state != FileState::Available {
        bail!("{file} is not published yet: its upload is still running");
    }
    let manifest = info.manifest(file).await?;
    let agreed = manifest.file == file
        && details.summary.id == file
        && manifest.size == details.summary.size
        && manifest.root == details.root
        && manifest.root.is_some();
    ensure!(
        agreed,
        "the info-server contradicts itself about {file}: try again, and tell its operator if that does not help"
    );
    Ok((details, manifest))
}

/// Where the file goes, and by which way.
pub(crate) fn place(target: &Target, name: &FileName) -> anyhow::Result<Place> {
    let (folder, name) = spot(target.output.as_deref(), name)?;
    Ok(Place { folder, name, partial_folder: target.partial_dir.clone(), replace: target.replace })
}

/// Folder and name: into the folder that `-o` names, or under the name that it names, or here.
pub(super) fn spot(output: Option<&Path>, name: &FileName) -> anyhow::Result<(PathBuf, FileName)> {
    let here = Path::new(".");
    let (folder, name) = match output {
        None => (here.to_owned(), name.clone()),
        Some(path) if path.is_dir() => (path.to_owned(), name.clone()),
        Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            anyhow::bail!("there is no folder {}: make it first", path.display())
        }
        Some(path) => {
            let text = path.file_name().and_then(|text| text.to_str());
            let named = text.with_context(|| format!("{} names no file", path.display()))?.parse()?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(here).to_owned(), named)
        }
    };
    ensure!(folder.is_dir(), "there is no folder {}: make it, or choose another with -o", folder.display());
    Ok((folder, name))
}

/// Near ones come first: as near as the info-server says, which knows the zone of the log-in too. Without any zone all are
/// alike.
pub(crate) fn sources(locations: Vec<Location>, zone: Option<&Zone>) -> Vec<Source> {
    let tier = |location: &Location| location.cost.max(u8::from(zone.is_some_and(|zone| *zone != location.zone)));
    locations.into_iter().map(|location| Source { tier: tier(&location), location }).collect()
}

struct InfoDirectory {
    info: InfoServer,
    file: FileId,
    zone: Option<Zone>,
}

#[async_trait]
impl Directory for InfoDirectory {
    async fn refresh(&self, why: Why) -> Result<Update, Box<dyn std::error::Error + Send + Sync>> {
        self.ask(why).await.map_err(|error| ended(&error).map_or_else(|| error.into(), Into::into))
    }
}

impl InfoDirectory {
    async fn ask(&self, why: Why) -> Result<Update, InfoError> {
        Ok(match why {
            Why::TokenExpiring | Why::TokenRefused => {
                Update { token: Some(self.info.renew(self.file).await?), ..Update::default() }
            }
            Why::NoSources => {
                let details = self.info.file(self.file, self.zone.as_ref(), false).await?;
                Update { sources: Some(sources(details.locations, self.zone.as_ref())), ..Update::default() }
            }
            Why::MoreDigests => Update { manifest: Some(self.info.manifest(self.file).await?), ..Update::default() },
        })
    }
}

/// Refusals that stay: the file was removed, or whoever asks may not have it any more.
fn ended(error: &InfoError) -> Option<Ended> {
    match error.status()? {
        404 | 410 => Some(Ended::Gone(error.to_string())),
        401 | 403 => Some(Ended::Refused(error.to_string())),
        _ => None,
    }
}
