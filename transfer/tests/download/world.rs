//! The fixture of a download: a file, the rogue servers that serve it, and a folder to download into.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use ddm_transfer::{
    download::{Directory, DownloadError, DownloadPlan, Engine, RefreshReason, Report, Settings, Update},
    progress::{Notice, Progress},
    sink::{Destination, Sink},
    source::{Source, client_builder},
};
use jiff::Timestamp;
use testkit::rogue::Rogue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::{
    ChunkLayout, ChunkSet, Digest, FileId, TokenId,
    catalogue::{IssuedToken, Location, Manifest},
    token::{Token, TokenKind},
};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) struct World {
    pub(crate) content: Bytes,
    pub(crate) manifest: Manifest,
    pub(crate) rogues: Vec<Rogue>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) directory: Arc<FixedDirectory>,
    pub(crate) token: IssuedToken,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Progress,
    notices: mpsc::Receiver<Notice>,
}

/// A directory that gives the same answer every time, and records the requests.
#[derive(Default)]
pub(crate) struct FixedDirectory {
    pub(crate) update: Mutex<Option<Update>>,
    /// Sent once, unsolicited.
    pub(crate) unsolicited: Mutex<Option<Update>>,
    pub(crate) asked: Mutex<Vec<RefreshReason>>,
}

#[async_trait]
impl Directory for FixedDirectory {
    async fn refresh(&self, reason: RefreshReason) -> Result<Update, Box<dyn std::error::Error + Send + Sync>> {
        self.asked.lock().unwrap().push(reason);
        self.update.lock().unwrap().clone().ok_or_else(|| "the info-server is down".into())
    }

    async fn updates(&self) -> Update {
        let unsolicited = self.unsolicited.lock().unwrap().take();
        match unsolicited {
            Some(update) => update,
            None => std::future::pending().await,
        }
    }
}

pub(crate) fn token(lifetime: Duration) -> IssuedToken {
    let expires_at = Timestamp::now() + lifetime;
    IssuedToken {
        token: Token::generate(TokenKind::Download),
        token_id: TokenId::new(),
        expires_at,
        lifetime_s: Some(lifetime.as_secs()),
    }
}

impl World {
    /// Creates a file of `size` bytes on that many honest rogues.
    pub(crate) async fn new(size: u64, servers: usize) -> Self {
        let layout = ChunkLayout::of(size).unwrap();
        let content: Bytes = (0..size).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap()).collect();
        let part = |range: std::ops::Range<u64>| {
            &content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
        };
        let digests: Vec<Digest> = layout.chunks().map(|chunk| Digest::of(part(layout.bytes_of(chunk)))).collect();
        let manifest = Manifest {
            file: FileId::new(),
            size,
            chunk_size: layout.chunk_size(),
            sha256: Some(Digest::of(&content)),
            root: Some(Digest::root_of(&digests)),
            chunks: digests.into_iter().map(Some).collect(),
        };
        let mut rogues = Vec::new();
        for _ in 0..servers {
            rogues.push(Rogue::start(manifest.file, content.clone()).await.unwrap());
        }
        let (progress, notices) = Progress::new();
        Self {
            content,
            manifest,
            rogues,
            folder: tempfile::tempdir().unwrap(),
            settings: Settings { connections: 4, wait: Duration::from_secs(20), ..Settings::default() },
            directory: Arc::default(),
            token: token(Duration::from_secs(900)),
            cancel: CancellationToken::new(),
            progress,
            notices,
        }
    }

    pub(crate) fn layout(&self) -> ChunkLayout {
        self.manifest.check().unwrap()
    }

    pub(crate) fn destination(&self) -> Destination {
        let folder = self.folder.path().to_owned();
        Destination { folder, name: "file".parse().unwrap(), partial_folder: None, replace: false }
    }

    pub(crate) fn part_path(&self) -> PathBuf {
        self.destination().part_path()
    }

    /// Returns the `n`-th rogue as a source of the whole file.
    pub(crate) fn source(&self, n: usize) -> Source {
        let server = format!("rogue-{n}").parse().unwrap();
        let (zone, url) = ("a".parse().unwrap(), self.rogues[n].url());
        Source { location: Location { server, zone, url, runs: self.layout().all(), cost: 0 }, tier: 0 }
    }

    pub(crate) fn sources(&self) -> Vec<Source> {
        (0..self.rogues.len()).map(|n| self.source(n)).collect()
    }

    pub(crate) async fn download(&self) -> Result<Report, DownloadError> {
        self.download_from(self.sources()).await
    }

    pub(crate) async fn download_from(&self, sources: Vec<Source>) -> Result<Report, DownloadError> {
        self.download_to(sources, &self.destination()).await
    }

    pub(crate) async fn download_to(
        &self,
        sources: Vec<Source>,
        destination: &Destination,
    ) -> Result<Report, DownloadError> {
        let engine = self.engine();
        within(engine.download(self.plan(sources), destination)).await
    }

    /// Downloads the chunks that are not in `held` into a sink.
    pub(crate) async fn fill(&self, sink: Arc<dyn Sink>, held: ChunkSet) -> Result<Report, DownloadError> {
        let engine = self.engine();
        within(engine.fill(self.plan(self.sources()), sink, held)).await
    }

    fn plan(&self, sources: Vec<Source>) -> DownloadPlan {
        DownloadPlan { manifest: self.manifest.clone(), sources, token: self.token.clone() }
    }

    fn engine(&self) -> Engine {
        Engine {
            client: client_builder().build().unwrap(),
            settings: self.settings.clone(),
            directory: Arc::clone(&self.directory) as Arc<dyn Directory>,
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// Checks that the finished file is right, that nothing else is in the folder, and that the report adds up.
    pub(crate) fn check(&self, report: &Report) {
        let names: Vec<_> =
            std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert!(std::fs::read(self.destination().path()).unwrap() == self.content, "wrong bytes under the final name");
        assert_eq!(report.resumed + report.fetched, report.size);
        assert_eq!(report.size, self.manifest.size);
        let shares: u32 = report.sources.iter().map(|source| source.share_permille).sum();
        assert_eq!(shares, if report.fetched == 0 { 0 } else { 1000 });
        let view = self.progress.snapshot();
        assert_eq!((view.bytes_done, view.chunks_done), (view.bytes_total, view.chunks_total));
    }

    /// Checks that no file has the final name.
    pub(crate) fn check_unfinished(&self) {
        assert!(!self.destination().path().exists());
    }

    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }

    /// Waits until this many chunks are verified.
    pub(crate) async fn chunks_done(&self, chunks: u32) {
        while self.progress.snapshot().chunks_done < chunks {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("the download hangs")
}

/// Returns the chunks that requests to a rogue covered.
pub(crate) fn asked_chunks(world: &World, n: usize) -> ChunkSet {
    world.rogues[n].asked().into_iter().map(|asked| world.layout().run_of_bytes(asked.range)).collect()
}
