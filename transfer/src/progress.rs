//! What a user interface may look at while a download runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;
use wire::{Runs, ServerId, Zone};

/// Notices that wait for a slow reader; further ones are dropped, so that looking never slows a download down.
const NOTICES: usize = 256;

/// A view of a running download. Cheap to clone and to look at.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    now: Mutex<Snapshot>,
    notices: mpsc::Sender<Notice>,
}

/// How far a download is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Verified chunks. Never falls.
    pub chunks_done: u32,
    /// Which they are.
    pub runs: Runs,
    /// All chunks.
    pub chunks_total: u32,
    /// Bytes of verified chunks, those of an earlier run included. Never falls.
    pub bytes_done: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
    /// Bytes per second that arrive now.
    pub rate: u64,
    /// Time until the end at this rate; none when nothing arrives.
    pub remaining: Option<Duration>,
    /// One line per source.
    pub sources: Vec<SourceLine>,
}

/// How one source does.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceLine {
    /// The server.
    pub server: ServerId,
    /// Its zone.
    pub zone: Zone,
    /// Verified bytes it gave.
    pub bytes: u64,
    /// Bytes per second it gives now.
    pub rate: u64,
    /// What it is doing.
    pub state: SourceState,
}

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Nothing is asked of it.
    Idle,
    /// Requests are running.
    Active,
    /// It failed and is left alone for a while.
    Resting,
    /// It is not asked again.
    Dropped,
}

/// Something a user wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A source failed; others take over.
    Lost {
        /// Which.
        server: ServerId,
        /// How it failed.
        reason: String,
    },
    /// A source refuses the token: a new one is asked for.
    Refused {
        /// Which.
        server: ServerId,
        /// How it said so.
        reason: String,
    },
    /// A source that had failed answers again.
    Returned {
        /// Which.
        server: ServerId,
    },
    /// A source sent bytes that do not match their digest; it is not asked again.
    WrongBytes {
        /// Which.
        server: ServerId,
        /// The chunk, counted from 0.
        chunk: u32,
    },
    /// Chunks were taken away from a source that gives less than half of what the fastest one gives. Told of each source
    /// every few seconds at most.
    Moved {
        /// The slow source.
        from: ServerId,
        /// How many chunks since it was told last.
        chunks: u32,
    },
    /// A new token is in use.
    TokenRenewed,
    /// No source is left: waiting for one.
    Waiting,
}

impl Progress {
    /// A view of a download that is about to start, and its notices.
    pub fn new() -> (Self, mpsc::Receiver<Notice>) {
        let (notices, receiver) = mpsc::channel(NOTICES);
        (Self(Arc::new(Inner { now: Mutex::default(), notices })), receiver)
    }

    /// How far the download is.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    pub(crate) fn notice(&self, notice: Notice) {
        // A reader that is gone or too slow misses notices, not the download.
        let _ = self.0.notices.try_send(notice);
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A snapshot is plain numbers: one left by a panicking thread is as good as any.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
