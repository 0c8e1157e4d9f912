//! Fetching of the chunks that are wrong, into the file itself.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use info_client::UserClient;
use transfer::{
    download::{DownloadPlan, Engine, Settings},
    progress::Progress,
    sink::{Sink, SinkError},
};
use wire::{ChunkIndex, ChunkSet, Digest, catalogue::Manifest};

use crate::{
    commands::file_directory::FileDirectory,
    context::Context,
    missing_chunks,
    progress::{self, Display, ShownFile},
    sources,
};

/// Time to wait when no server is available.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Parallel requests per server.
const CONNECTIONS: usize = 4;

/// Damage of a file.
pub(super) struct Damage<'a> {
    pub(super) manifest: &'a Manifest,
    /// Chunks that match; they are not touched.
    pub(super) intact: ChunkSet,
    /// Way to show the download.
    pub(super) display: Display,
}

/// Fetches the chunks that are wrong, and cuts or extends the file to its size. Returns the number of bytes fetched.
///
/// # Errors
/// When a chunk cannot be fetched or written. The intact chunks stay as they are.
pub(super) async fn fetch(
    context: &Context,
    info: &UserClient,
    file: &File,
    damage: Damage<'_>,
) -> anyhow::Result<u64> {
    let Damage { manifest, intact, display } = damage;
    let zone = context.common.zone.clone();
    let details = info.file(manifest.file, zone.as_ref(), true).await?;
    let shown = ShownFile::from(&details.summary);
    for line in missing_chunks::lines(details.missing.as_ref()) {
        progress::note(display, "incomplete", &line);
    }
    let token = details.download.context("the info-server sent no download token for this file")?;
    let plan =
        DownloadPlan { manifest: manifest.clone(), sources: sources::ranked(details.locations, zone.as_ref()), token };
    file.set_len(manifest.size).context("cannot set the size of the file")?;
    let (progress, notices) = Progress::new();
    let engine = Engine {
        client: context.http()?,
        settings: Settings {
            connections: CONNECTIONS,
            wait: SOURCE_TIMEOUT,
            rate_limiter: context.rate_limiter.clone(),
            ..Settings::default()
        },
        directory: Arc::new(FileDirectory::new(info.clone(), manifest.file, zone)),
        progress: progress.clone(),
        cancel: context.cancel.clone(),
    };
    let sink = Arc::new(InPlace { file: file.try_clone()?, path: manifest.file.to_string().into() });
    let display = progress::watch(display, shown, progress, notices);
    let report = tokio::select! {
        report = engine.fill(plan, sink, intact) => report?,
        never = display => match never {},
    };
    file.sync_all().context("cannot sync the file")?;
    Ok(report.fetched)
}

/// The damaged file: only chunks that are wrong are overwritten.
struct InPlace {
    file: File,
    /// Path that messages name.
    path: PathBuf,
}

impl Sink for InPlace {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn verified(&self, _: ChunkIndex, _: Digest) -> io::Result<()> {
        Ok(())
    }

    fn explain(&self, source: io::Error) -> SinkError {
        SinkError::Io { doing: "repair", path: self.path.clone(), source }
    }
}
