//! `get -o -`: a published file to standard output, chunk by chunk as they are verified, in their order.
//!
//! Chunks that arrive before their turn wait in a file without a name. The digests of chunks far ahead are held back until the output
//! comes near, so that this file stays small however slow the reader is.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_trait::async_trait;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};
use tokio::sync::Notify;
use transfer::{
    download::{Directory, DownloadError, DownloadPlan, Engine, RefreshReason, Settings, Update},
    progress::Progress,
    sink::{Sink, SinkError},
};
use wire::{
    ChunkIndex, ChunkLayout, ChunkSet, Digest,
    catalogue::{FileDetails, Manifest},
};

use crate::{
    background,
    cli::DownloadOptions,
    context::Context,
    exit::{Exit, UsageError},
    output::status,
    progress::{self, Display, ShownFile},
    sources, text,
};

/// A published file, as the info-server describes it, and the way to download it.
pub(super) struct PublishedFile {
    pub(super) details: FileDetails,
    pub(super) manifest: Manifest,
    pub(super) directory: Box<dyn Directory>,
    pub(super) options: DownloadOptions,
    /// Parallel requests per server.
    pub(super) connections: u16,
}

/// Bytes that are fetched ahead of the output, at most, but for [`MIN_CHUNKS_AHEAD`].
const MAX_BYTES_AHEAD: u64 = 256 << 20;
const MIN_CHUNKS_AHEAD: u32 = 4;
/// Bytes written at once.
const WRITE_LEN: usize = 256 << 10;
/// Interval at which the engine learns how far the output has come.
const UPDATE_INTERVAL: Duration = Duration::from_millis(50);

/// The error of a write to standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct OutputError(#[source] io::Error);

/// Checks that the bytes of a file, and nothing else, may go to standard output.
///
/// # Errors
/// Says what to do instead.
pub(super) fn check(context: &Context) -> anyhow::Result<()> {
    let refused = if context.common.json {
        "--json and -o - both write to standard output; choose one of them"
    } else if background::is_background_task() {
        "the prompt writes to standard output; run `ddm-client get -o -` outside of it"
    } else if io::stdout().is_terminal() {
        "-o - writes the bytes of the file; redirect them to a file or a program"
    } else {
        return Ok(());
    };
    Err(UsageError::refusal(refused))
}

/// Downloads a file to standard output.
///
/// # Errors
/// Any failure before the last byte is written. Nothing is kept.
pub(super) async fn run(context: &Context, published: PublishedFile) -> anyhow::Result<Exit> {
    let (started, quiet) = (Instant::now(), published.options.quiet);
    match download(context, published).await {
        Ok(file) => {
            if !quiet {
                let (size, elapsed) = (text::size(file.size), text::time(started.elapsed()));
                status(&format!("{}: {size} verified in {elapsed}", file.name));
            }
            Ok(Exit::Done)
        }
        Err(error) if matches!(error.downcast_ref(), Some(DownloadError::Interrupted)) => {
            status("Interrupted.");
            Ok(Exit::Interrupted)
        }
        Err(error) => match error.downcast_ref() {
            Some(OutputError(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::OutputClosed),
            _ => Err(error),
        },
    }
}

async fn download(context: &Context, published: PublishedFile) -> anyhow::Result<ShownFile> {
    let PublishedFile { details, manifest, directory, options, connections } = published;
    let zone = context.common.zone.as_ref();
    let shown = ShownFile::from(&details.summary);
    let token = details.download.context("the info-server sent no download token for this file")?;
    let folder = options.partial_dir.clone().unwrap_or_else(std::env::temp_dir);
    let ordered = Arc::new(OrderedOutput::new(&folder, manifest.check()?)?);
    let directory = AheadDirectory { file: directory, manifest, ordered: Arc::clone(&ordered) };
    let plan =
        DownloadPlan { manifest: directory.near_manifest(), sources: sources::ranked(details.locations, zone), token };
    let (progress, notices) = Progress::new();
    let engine = Engine {
        client: context.http()?,
        settings: Settings {
            connections: connections.into(),
            wait: options.wait,
            rate_limiter: context.rate_limiter.clone(),
            ..Settings::default()
        },
        directory: Arc::new(directory),
        progress: progress.clone(),
        cancel: context.cancel.clone(),
    };
    let display = Display::choose(false, options.quiet);
    let display = progress::watch(display, shown.clone(), progress, notices);
    let sink = Arc::clone(&ordered) as Arc<dyn Sink>;
    let filled = async {
        let filled = engine.fill(plan, sink, ChunkSet::new()).await;
        if matches!(filled, Err(DownloadError::Lost { .. })) {
            // The reader gets what precedes the first chunk that is lost.
            ordered.caught_up().await;
        }
        filled.map_err(anyhow::Error::from)
    };
    let written = async {
        // A reader that takes nothing must not hold up the interruption.
        let written = context.cancel.run_until_cancelled(ordered.write_all()).await;
        written.ok_or(DownloadError::Interrupted)?.map_err(|error| OutputError(error).into())
    };
    tokio::select! {
        done = async { tokio::try_join!(filled, written) } => done?,
        never = display => match never {},
    };
    Ok(shown)
}

/// Verified chunks that wait for their turn.
struct OrderedOutput {
    file: File,
    folder: PathBuf,
    layout: ChunkLayout,
    verified: Mutex<ChunkSet>,
    /// The first chunk that is not written yet.
    next: AtomicU32,
    arrived: Notify,
}

impl OrderedOutput {
    fn new(folder: &Path, layout: ChunkLayout) -> anyhow::Result<Self> {
        let file = unnamed_file(folder).with_context(|| {
            format!("cannot create a file in {}; --partial-dir names another folder", folder.display())
        })?;
        Ok(Self {
            file,
            folder: folder.to_owned(),
            layout,
            verified: Mutex::default(),
            next: AtomicU32::new(0),
            arrived: Notify::new(),
        })
    }

    fn arrived_chunks(&self) -> MutexGuard<'_, ChunkSet> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the end of the chunks that may be fetched now.
    fn end(&self) -> u32 {
        let ahead = u32::try_from(MAX_BYTES_AHEAD / self.layout.chunk_size().max(1)).unwrap_or(u32::MAX);
        self.next.load(Ordering::Acquire).saturating_add(ahead.max(MIN_CHUNKS_AHEAD)).min(self.layout.count())
    }

    /// Returns true if chunks wait for the reader of the output.
    fn is_ahead(&self) -> bool {
        self.arrived_chunks().contains(self.next.load(Ordering::Acquire))
    }

    /// Waits until every chunk is written before which none is missing.
    async fn caught_up(&self) {
        while self.is_ahead() {
            tokio::time::sleep(UPDATE_INTERVAL).await;
        }
    }

    /// Writes every chunk as soon as it is verified and those before it are written.
    async fn write_all(self: &Arc<Self>) -> io::Result<()> {
        for chunk in self.layout.chunks() {
            while !self.arrived_chunks().contains(chunk.get()) {
                self.arrived.notified().await;
            }
            let output = Arc::clone(self);
            let written = tokio::task::spawn_blocking(move || output.write(chunk));
            written.await.map_err(io::Error::other)??;
            self.next.store(chunk.get() + 1, Ordering::Release);
        }
        Ok(())
    }

    /// Writes one chunk, and frees its space.
    fn write(&self, chunk: ChunkIndex) -> io::Result<()> {
        let bytes = self.layout.bytes_of(chunk);
        let (mut at, mut buffer) = (bytes.start, vec![0; WRITE_LEN]);
        let mut out = io::stdout().lock();
        while at < bytes.end {
            let len = usize::try_from(bytes.end - at).unwrap_or(WRITE_LEN).min(WRITE_LEN);
            let part = buffer.get_mut(..len).unwrap_or_default();
            self.file.read_exact_at(part, at)?;
            out.write_all(part)?;
            at += u64::try_from(len).unwrap_or(u64::MAX);
        }
        out.flush()?;
        // Where the file system cannot, the space is free when the command ends.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(&self.file, flags, bytes.start, bytes.end - bytes.start);
        Ok(())
    }
}

impl Sink for OrderedOutput {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn verified(&self, chunk: ChunkIndex, _: Digest) -> io::Result<()> {
        self.arrived_chunks().insert(chunk.get()..chunk.get() + 1);
        self.arrived.notify_one();
        Ok(())
    }

    fn explain(&self, source: io::Error) -> SinkError {
        SinkError::Io { doing: "write to a file in", path: self.folder.clone(), source }
    }
}

/// The directory of a file whose digests become known as the output advances.
struct AheadDirectory {
    file: Box<dyn Directory>,
    manifest: Manifest,
    ordered: Arc<OrderedOutput>,
}

impl AheadDirectory {
    /// Returns the manifest with the digests of the chunks that may be fetched now.
    fn near_manifest(&self) -> Manifest {
        let end = self.ordered.end();
        let near = (0..).zip(&self.manifest.chunks).map(|(chunk, digest): (u32, _)| digest.filter(|_| chunk < end));
        Manifest { sha256: None, root: None, chunks: near.collect(), ..self.manifest.clone() }
    }

    fn update(&self) -> Update {
        // A slow reader is no reason to give up.
        Update { manifest: Some(self.near_manifest()), more_expected: self.ordered.is_ahead(), ..Update::default() }
    }
}

#[async_trait]
impl Directory for AheadDirectory {
    async fn refresh(&self, reason: RefreshReason) -> Result<Update, Box<dyn std::error::Error + Send + Sync>> {
        match reason {
            RefreshReason::MoreDigests => Ok(self.update()),
            other => self.file.refresh(other).await,
        }
    }

    async fn updates(&self) -> Update {
        tokio::time::sleep(UPDATE_INTERVAL).await;
        self.update()
    }
}

/// Creates a file that no other process can open and that is gone when it is closed.
fn unnamed_file(folder: &Path) -> io::Result<File> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
    if let Ok(file) = open(folder, flags | OFlags::TMPFILE, mode) {
        return Ok(file.into());
    }
    let path = folder.join(format!(".ddm-output-{}", wire::TraceId::new()));
    let file = open(&path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}
