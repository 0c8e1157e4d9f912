//! Publishes a file to many servers at once.

mod flights;
mod piece;
mod target;

use std::{
    fs::{File, Metadata},
    io,
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wire::{Digest, Hasher, Layout, ServerId, catalog::UploadPlan};

use self::{
    flights::{Flights, Landed},
    piece::Piece,
    target::Seat,
};

/// Bytes of the file that may be on their way at once: bounds memory, and how far the fastest target is ahead.
const WINDOW: u64 = 16 << 20;
/// How often targets are looked at that do not get on.
const GLANCE: Duration = Duration::from_millis(250);

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

/// How an upload gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// All living targets hold this many bytes of the file. Never falls.
    Held(u64),
    /// A target is left behind; the others go on.
    LeftBehind {
        /// Which.
        server: ServerId,
        /// Why.
        reason: String,
    },
}

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Reading the file failed.
    #[error("cannot read the file: {0}")]
    Read(io::Error),
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
    /// Told after every chunk, and when a target is left behind. Must return at once.
    pub progress: Box<dyn Fn(Step) + Send + Sync>,
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        // Shorter than it was a moment ago.
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Changed } else { Self::Read(error) }
    }
}

impl Publisher {
    /// Reads `file` once from its beginning, hashes it and sends every chunk to every target of the plan. Chunks too large
    /// to be held in memory are read again, from the page cache, while they are sent.
    ///
    /// What a target claims to hold already is believed here: the commit compares the root of every replica.
    ///
    /// A target that does not get on is left behind as soon as the others make the quorum: after seconds, not after all its
    /// tries.
    ///
    /// # Errors
    /// [`UploadError`]; what the targets took stays there, so that a second try with `resume` sends only the rest.
    pub async fn publish(&self, file: File, plan: &UploadPlan) -> Result<Published, UploadError> {
        let before = file.metadata()?;
        let layout = Layout::of(before.len()).ok().filter(|layout| layout.chunk_size() == plan.chunk_size);
        let layout = layout.ok_or(UploadError::Plan { size: before.len() })?;
        let seats: Vec<Seat> = plan.targets.iter().map(|target| Seat::new(target.clone())).collect();
        let mut glances = tokio::time::interval(GLANCE);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let flights = Flights::default();
        let mut course =
            Course { publisher: self, plan, layout, file: Arc::new(file), seats, flights, glances, held: 0 };
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
    /// Dropped, and with it every request, when the upload fails or is cancelled.
    flights: Flights,
    glances: Interval,
    held: u64,
}

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
        for chunk in self.layout.chunks() {
            while self.flights.chunks() >= window {
                self.advance().await?;
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
            self.send(&piece);
        }
        while self.flights.chunks() > 0 {
            self.advance().await?;
        }
        Ok((whole.finish(), digests))
    }

    /// Sends a chunk to every living target that lacks it.
    fn send(&mut self, piece: &Piece) {
        let (client, token) = (&self.publisher.client, &self.plan.upload.token);
        let puts = self.seats.iter_mut().enumerate();
        let puts: Vec<_> = puts.filter_map(|(at, seat)| Some((at, seat.put(piece, client, token)?))).collect();
        if puts.is_empty() {
            self.hold(piece.len);
        } else {
            self.flights.launch(piece, puts);
        }
    }

    /// Waits for a request to end, or for the next look at those that do not.
    async fn advance(&mut self) -> Result<(), UploadError> {
        tokio::select! {
            landed = self.flights.landed() => self.settle(landed),
            _ = self.glances.tick() => {
                self.leave_behind();
                Ok(())
            }
        }
    }

    fn settle(&mut self, landed: Landed) -> Result<(), UploadError> {
        let Landed { seat, len, result, last } = landed;
        if let Some(failure) = self.seats.get_mut(seat).and_then(|seat| seat.settle(len, result)) {
            self.left_behind(seat, failure);
        }
        self.check_quorum()?;
        if last {
            self.hold(len);
        }
        Ok(())
    }

    fn hold(&mut self, len: u64) {
        self.held += len;
        (self.publisher.progress)(Step::Held(self.held));
    }

    /// Gives up targets that do not get on, when those that do make the quorum.
    fn leave_behind(&mut self) {
        let stuck: Vec<Option<String>> =
            (0..).zip(&self.seats).map(|(at, seat)| seat.stuck().filter(|_| self.flights.busy(at))).collect();
        let well = self.seats.iter().zip(&stuck).filter(|(seat, stuck)| seat.lives() && stuck.is_none()).count();
        if !self.makes_quorum(well) {
            return;
        }
        for (at, reason) in stuck.into_iter().enumerate() {
            let Some(reason) = reason.filter(|_| self.seats.get(at).is_some_and(Seat::lives)) else { continue };
            if let Some(seat) = self.seats.get_mut(at) {
                seat.give_up(reason.clone());
            }
            self.flights.abort(at);
            self.left_behind(at, reason);
        }
    }

    fn left_behind(&self, at: usize, reason: String) {
        if let Some(seat) = self.seats.get(at) {
            (self.publisher.progress)(Step::LeftBehind { server: seat.server().clone(), reason });
        }
    }

    fn makes_quorum(&self, servers: usize) -> bool {
        usize::try_from(self.plan.quorum).is_ok_and(|quorum| servers >= quorum.max(1))
    }

    /// A target that failed is left behind as long as enough others live.
    fn check_quorum(&self) -> Result<(), UploadError> {
        let alive = self.seats.iter().filter(|seat| seat.lives()).count();
        let quorum = self.plan.quorum;
        if self.makes_quorum(alive) {
            return Ok(());
        }
        let reasons = self.seats.iter().filter_map(Seat::failure).collect::<Vec<_>>().join("; ");
        Err(UploadError::Quorum { alive, quorum, reasons })
    }
}

fn changed(before: &Metadata, after: &Metadata) -> bool {
    before.len() != after.len() || before.modified().ok() != after.modified().ok()
}
