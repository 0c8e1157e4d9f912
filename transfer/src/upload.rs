//! Publishes a file to many servers at once.

mod piece;
mod target;

use std::{
    fs::{File, Metadata},
    io,
    sync::Arc,
};

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::{Digest, Hasher, Layout, ServerId, catalog::UploadPlan};

use self::{piece::Piece, target::Seat};

/// Bytes of the file that may be on their way at once: bounds memory, and how far the fastest target is ahead.
const WINDOW: u64 = 16 << 20;

/// A file that the servers hold now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// SHA-256 of each chunk, in order.
    pub digests: Vec<Digest>,
    /// One per target, in the plan's order.
    pub targets: Vec<TargetReport>,
}

/// What one target did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReport {
    /// The server.
    pub server: ServerId,
    /// Bytes it took.
    pub sent: u64,
    /// Bytes it held already.
    pub resumed: u64,
    /// Why it was left behind, if it was.
    pub failure: Option<String>,
}

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Reading the file failed.
    #[error("cannot read the file: {0}")]
    Read(#[from] io::Error),
    /// Size or modification time changed, or the bytes differ when read again.
    #[error("the file changed while it was read; publish it again when it is complete")]
    Changed,
    /// The plan is of a file of another size.
    #[error("the plan's chunk size does not fit a file of {size} bytes")]
    Plan {
        /// Bytes in the file.
        size: u64,
    },
    /// Too many targets failed.
    #[error("{alive} of the {quorum} servers needed are left: {reasons}")]
    Quorum {
        /// Targets that still work.
        alive: usize,
        /// Targets that the commit needs.
        quorum: u32,
        /// What each failed target said.
        reasons: String,
    },
    /// It was cancelled.
    #[error("interrupted")]
    Interrupted,
}

/// Sends files.
pub struct Publisher {
    /// Made by [`crate::source::client_builder`].
    pub client: reqwest::Client,
    /// Whether to ask the targets first which chunks they hold.
    pub resume: bool,
    /// Ends the upload soon.
    pub cancel: CancellationToken,
    /// Told the bytes that all living targets hold, after every chunk. Must return at once.
    pub progress: Box<dyn Fn(u64) + Send + Sync>,
}

impl Publisher {
    /// Reads `file` once from its beginning, hashes it and sends every chunk to every target of the plan. Chunks too large
    /// to be held in memory are read again, from the page cache, while they are sent.
    ///
    /// What a target claims to hold already is believed here: the commit compares the root of every replica.
    ///
    /// # Errors
    /// [`UploadError`]; what the targets took stays there, so that a second try with `resume` sends only the rest.
    pub async fn publish(&self, file: File, plan: &UploadPlan) -> Result<Published, UploadError> {
        let before = file.metadata()?;
        let layout = Layout::of(before.len()).ok().filter(|layout| layout.chunk_size() == plan.chunk_size);
        let layout = layout.ok_or(UploadError::Plan { size: before.len() })?;
        let seats: Vec<Seat> = plan.targets.iter().map(|target| Seat::new(target.clone())).collect();
        let mut course = Course { publisher: self, plan, layout, file: Arc::new(file), seats, sent: 0 };
        let (sha256, digests) = tokio::select! {
            () = self.cancel.cancelled() => return Err(UploadError::Interrupted),
            sent = course.run() => sent?,
        };
        if changed(&before, &course.file.metadata()?) {
            return Err(UploadError::Changed);
        }
        Ok(Published { sha256, digests, targets: course.seats.into_iter().map(Seat::report).collect() })
    }
}

/// One upload from its first chunk to its last.
struct Course<'a> {
    publisher: &'a Publisher,
    plan: &'a UploadPlan,
    layout: Layout,
    file: Arc<File>,
    seats: Vec<Seat>,
    sent: u64,
}

/// A chunk was sent: its bytes, and what became of it at each target that was to take it.
type Sent = (u64, Vec<(usize, Result<(), String>)>);

impl Course<'_> {
    async fn run(&mut self) -> Result<(Digest, Vec<Digest>), UploadError> {
        // An empty file has no chunk to send: the question is what makes a target hold it.
        if self.publisher.resume || self.layout.count() == 0 {
            let ask = self.seats.iter_mut().map(|seat| seat.ask_held(&self.publisher.client, &self.plan.upload.token));
            join_all(ask).await;
        }
        self.check_quorum()?;
        let window = usize::try_from((WINDOW / self.layout.chunk_size()).clamp(1, 8)).unwrap_or(1);
        let (mut whole, mut digests) = (Hasher::new(), Vec::new());
        // Dropped, and with it every request, when the upload fails or is cancelled.
        let mut running: JoinSet<Sent> = JoinSet::new();
        for chunk in self.layout.chunks() {
            while running.len() >= window {
                self.settle(running.join_next().await)?;
            }
            let (layout, file) = (self.layout, Arc::clone(&self.file));
            let read = tokio::task::spawn_blocking(move || {
                let piece = Piece::read(&file, layout, chunk, &mut whole);
                (piece, whole)
            });
            let (piece, hasher) = read.await.map_err(|_| UploadError::Interrupted)?;
            whole = hasher;
            let piece = piece?;
            digests.push(piece.digest);
            self.send(piece, &mut running);
        }
        while !running.is_empty() {
            self.settle(running.join_next().await)?;
        }
        Ok((whole.finish(), digests))
    }

    /// Sends a chunk to every living target that lacks it.
    fn send(&mut self, piece: Piece, running: &mut JoinSet<Sent>) {
        let mut puts = Vec::new();
        for (at, seat) in self.seats.iter_mut().enumerate() {
            let put = seat.put(&piece, &self.publisher.client, &self.plan.upload.token);
            puts.extend(put.map(|put| async move { (at, put.run().await) }));
        }
        running.spawn(async move { (piece.len, join_all(puts).await) });
    }

    fn settle(&mut self, sent: Option<Result<Sent, tokio::task::JoinError>>) -> Result<(), UploadError> {
        let Some(Ok((len, results))) = sent else { return Err(UploadError::Interrupted) };
        for (at, result) in results {
            if let Some(seat) = self.seats.get_mut(at) {
                seat.settle(len, result);
            }
        }
        self.check_quorum()?;
        self.sent += len;
        (self.publisher.progress)(self.sent);
        Ok(())
    }

    /// A target that failed is left behind as long as enough others live.
    fn check_quorum(&self) -> Result<(), UploadError> {
        let alive = self.seats.iter().filter(|seat| seat.lives()).count();
        let quorum = self.plan.quorum;
        if usize::try_from(quorum).is_ok_and(|quorum| alive >= quorum.max(1)) {
            return Ok(());
        }
        let reasons = self.seats.iter().filter_map(Seat::failure).collect::<Vec<_>>().join("; ");
        Err(UploadError::Quorum { alive, quorum, reasons })
    }
}

fn changed(before: &Metadata, after: &Metadata) -> bool {
    before.len() != after.len() || before.modified().ok() != after.modified().ok()
}
