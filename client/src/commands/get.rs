//! Downloads one file.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use tokio::sync::mpsc::Receiver;
use transfer::{
    download::{Directory, DownloadError, Engine, Job, Report, Settings, Update, Why},
    info::InfoServer,
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
    cli::Get,
    progress::{self, Display},
};

/// Carries out `get`.
///
/// # Errors
/// Whatever kept the file from standing under its name; what was verified is kept for the next try.
pub async fn run(context: &Context, get: &Get) -> anyhow::Result<Exit> {
    let display = Display::choose(context.common.json, get.quiet);
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
    let place = place(get, &details.summary.name)?;
    let token = details.download.context("the info-server gave no token for this file")?;
    let job = Job { manifest, sources: sources(details.locations, zone.as_ref()), token };
    let engine = Engine {
        client: context.http()?,
        settings: Settings { connections: get.connections.into(), wait: get.wait },
        directory: Arc::new(InfoDirectory { info, file: get.file, zone }),
        progress: progress.clone(),
        cancel: context.cancel.clone(),
    };
    let shown = progress::watch(display, details.summary, progress, notices);
    let report = tokio::select! {
        report = engine.download(job, &place) => report?,
        never = shown => match never {},
    };
    Ok((place, report))
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

/// Where the file goes: into the folder that `-o` names, or under the name that it names, or here.
fn place(get: &Get, name: &FileName) -> anyhow::Result<Place> {
    let here = Path::new(".");
    let (folder, name) = match &get.output {
        None => (here.to_owned(), name.clone()),
        Some(path) if path.is_dir() => (path.clone(), name.clone()),
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
    Ok(Place { folder, name, partial_folder: get.partial_dir.clone(), replace: get.replace })
}

/// Sources of one's own zone are near; of all others, far. Without a zone all are alike.
fn sources(locations: Vec<Location>, zone: Option<&Zone>) -> Vec<Source> {
    let tier = |location: &Location| u8::from(zone.is_some_and(|zone| *zone != location.zone));
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
