//! The view of a running download for a user interface.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;
use wire::{ChunkSet, ServerId, Zone};

/// Notices in the queue of a slow reader; further ones are dropped, so that a reader never slows a download down.
const MAX_QUEUED_NOTICES: usize = 256;

/// A view of a running download. Cheap to clone and to read.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    now: Mutex<Snapshot>,
    notices: mpsc::Sender<Notice>,
}

/// The state of a download at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Number of verified chunks. Never falls.
    pub chunks_done: u32,
    /// The verified chunks.
    pub runs: ChunkSet,
    /// Number of chunks in the file.
    pub chunks_total: u32,
    /// Bytes of verified chunks, those of an earlier run included. Never falls.
    pub bytes_done: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
    /// Bytes per second that arrive at present.
    pub rate: u64,
    /// Time until the end at this rate; `None` when nothing arrives.
    pub remaining: Option<Duration>,
    /// One entry per source.
    pub sources: Vec<SourceProgress>,
    /// Progress of hashing what an earlier run left, before the first request.
    pub hashing: Option<HashProgress>,
}

/// Progress of hashing the chunks that are there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HashProgress {
    /// Bytes that were hashed.
    pub bytes_done: u64,
    /// Bytes to hash.
    pub bytes_total: u64,
}

/// The state of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceProgress {
    /// The server.
    pub server: ServerId,
    /// Its zone.
    pub zone: Zone,
    /// Bytes in chunks of this source that were verified.
    pub bytes: u64,
    /// Bytes per second that it gives at present.
    pub rate: u64,
    /// Its activity.
    pub state: SourceActivity,
}

/// The activity of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceActivity {
    /// No request is in flight.
    Idle,
    /// Requests are in flight.
    Active,
    /// The source failed and receives no request for a while.
    Resting,
    /// The source receives no further request.
    Dropped,
}

/// An event of a download for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A source failed; other sources take over its chunks.
    Lost {
        /// The server.
        server: ServerId,
        /// The failure.
        reason: String,
    },
    /// A source refuses the token; the engine asks for a new one.
    Refused {
        /// The server.
        server: ServerId,
        /// The refusal.
        reason: String,
    },
    /// A source that had failed serves again.
    Returned {
        /// The server.
        server: ServerId,
    },
    /// A source sent bytes that do not match their digest. It receives no further request.
    WrongBytes {
        /// The server.
        server: ServerId,
        /// The index of the chunk, from 0.
        chunk: u32,
    },
    /// Chunks moved away from a source that gives less than half of what the fastest source gives, or nothing. Sent for each
    /// source every few seconds at most, and not for one that failed.
    Moved {
        /// The slow or silent source.
        from: ServerId,
        /// Number of chunks since the last such notice.
        chunks: u32,
        /// The time since which it has sent nothing, if that is no mere pause.
        silent_for: Option<Duration>,
    },
    /// A new token is in use.
    TokenRenewed,
    /// The sources give so little that no chunk becomes complete. The download goes on, because bytes arrive. Sent more and more
    /// rarely.
    Slow {
        /// The sources that give anything.
        sources: Vec<SlowSource>,
        /// The time since a chunk became complete.
        without_chunk: Duration,
    },
    /// No source is left; the download waits for one.
    Waiting {
        /// The chunks that no known source can give, if there are any.
        lost: Option<String>,
    },
}

/// A source that gives little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowSource {
    /// The server.
    pub server: ServerId,
    /// Bytes per second that it gives.
    pub rate: u64,
}

impl Progress {
    /// Creates the view of a download that is about to start, and the queue of its notices.
    pub fn new() -> (Self, mpsc::Receiver<Notice>) {
        let (notices, receiver) = mpsc::channel(MAX_QUEUED_NOTICES);
        (Self(Arc::new(Inner { now: Mutex::default(), notices })), receiver)
    }

    /// Returns the state of the download at present.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    /// Counts bytes of an earlier run that were hashed, of so many in all.
    pub(crate) fn hashed(&self, bytes: u64, bytes_total: u64) {
        self.update(|now| {
            let hashing = now.hashing.get_or_insert_default();
            hashing.bytes_done += bytes;
            hashing.bytes_total = bytes_total;
        });
    }

    pub(crate) fn notice(&self, notice: Notice) {
        // A reader that is gone or too slow misses notices; the download goes on.
        let _ = self.0.notices.try_send(notice);
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A snapshot is plain numbers: one left by a panicking thread is valid.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
