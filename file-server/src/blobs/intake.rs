//! Where the chunks of a replication go: the same way as those of an upload, so that they count only once synced.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
    time::timeout,
};
use transfer::sink::{Sink, SinkError};
use wire::{ChunkIndex, Digest};

use super::{Blob, BlobError, Blobs, blob::Turn, commit::Verified};
use crate::metrics::Metrics;

/// How long to wait for the last syncs.
const LAST_SYNCS: Duration = Duration::from_secs(30);

type Synced = oneshot::Receiver<Result<(), BlobError>>;

/// Takes the chunks that a replication fetches into a blob.
#[derive(Debug)]
pub(crate) struct Intake {
    blob: Arc<Blob>,
    digests: Vec<Digest>,
    commits: mpsc::Sender<Verified>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Chunks being received; without a turn those that came here another way meanwhile.
    writing: BTreeMap<u32, Option<Turn>>,
    /// Chunks that wait for their sync.
    syncing: Vec<Synced>,
}

impl Blobs {
    /// Takes chunks of `blob` in, whose digests these are.
    pub(crate) fn take_in(&self, blob: &Arc<Blob>, digests: Vec<Digest>) -> Intake {
        Intake {
            blob: blob.clone(),
            digests,
            commits: self.commits.clone(),
            metrics: self.metrics.clone(),
            state: Mutex::default(),
        }
    }
}

impl Intake {
    /// Waits until everything that was verified is synced and counts.
    pub(crate) async fn settle(&self) -> Result<(), BlobError> {
        let syncing = std::mem::take(&mut self.state().syncing);
        self.state().writing.clear();
        let all = async {
            for synced in syncing {
                synced.await.map_err(|_| BlobError::Unsynced)??;
            }
            Ok(())
        };
        timeout(LAST_SYNCS, all).await.unwrap_or(Err(BlobError::Hung))
    }

    /// Whether the bytes at `offset` are to be written: not where the chunk has come another way meanwhile.
    fn is_open(&self, chunk: ChunkIndex, offset: u64) -> io::Result<bool> {
        if self.blob.is_deleted() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.state();
        if self.blob.layout.bytes_of(chunk).start == offset {
            // What an abandoned request had begun is begun anew.
            state.writing.remove(&chunk.get());
            let turn = self.blob.try_turn(chunk).ok_or(io::ErrorKind::ResourceBusy)?;
            state.writing.insert(chunk.get(), Some(turn).filter(|_| !self.blob.holds(chunk)));
        }
        Ok(state.writing.get(&chunk.get()).is_some_and(Option::is_some))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Intake {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let run = self.blob.layout.run_of_bytes(offset..offset.saturating_add(1));
        let chunk = self.blob.layout.chunk(run.start).ok_or(io::ErrorKind::InvalidInput)?;
        if !self.is_open(chunk, offset)? {
            return Ok(());
        }
        self.metrics.replicated_bytes.inc_by(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        aside(|| self.blob.file.write_all_at(bytes, offset))
    }

    fn verified(&self, chunk: ChunkIndex) -> io::Result<()> {
        let mut state = self.state();
        let Some(turn) = state.writing.remove(&chunk.get()).flatten() else { return Ok(()) };
        let position = usize::try_from(chunk.get()).unwrap_or(usize::MAX);
        let digest = *self.digests.get(position).ok_or(io::ErrorKind::InvalidInput)?;
        let (done, synced) = oneshot::channel();
        let queued = self.commits.try_send(Verified { turn, digest, done });
        queued.map_err(|_| io::Error::other("the disk does not keep up"))?;
        self.metrics.replicated_chunks.inc();
        state.syncing.push(synced);
        // A disk that fails is noticed at the next chunk, not at the end.
        let mut outcome = Ok(());
        state.syncing.retain_mut(|synced| match synced.try_recv() {
            Ok(Ok(())) => false,
            Ok(Err(error)) => {
                outcome = Err(failed(&error));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => {
                outcome = Err(failed(&BlobError::Unsynced));
                false
            }
        });
        outcome
    }

    fn explain(&self, error: io::Error) -> SinkError {
        let (path, needed) = (self.blob.id.to_string().into(), self.blob.layout.size());
        let error = BlobError::Disk(error);
        if error.is_full() {
            return SinkError::Full { path, needed };
        }
        SinkError::Io { doing: "write", path, source: io::Error::other(error) }
    }
}

fn failed(error: &BlobError) -> io::Error {
    if error.is_full() { io::ErrorKind::StorageFull.into() } else { io::Error::other(error.to_string()) }
}

/// Runs what may wait for a disk without holding up whatever else the thread has to do.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    // Where there is one thread only, there is no other to hand its work to.
    let many = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if many { tokio::task::block_in_place(work) } else { work() }
}
