//! The sink of a replication: chunks go the same way as those of an upload, so they count only once synced.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot::error::TryRecvError,
    time::timeout,
};
use transfer::sink::{Sink, SinkError};
use wire::{ChunkIndex, Digest};

use super::commit_queue::{Committed, PendingChunk};
use crate::{Blob, BlobError, BlobStore, ChunkWriter};

/// Time to wait for the last syncs.
const LAST_SYNCS_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes the chunks that a replication fetches into a blob.
#[derive(Debug)]
pub struct ReplicaSink {
    store: Arc<BlobStore>,
    blob: Arc<Blob>,
    digests: Vec<Digest>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Chunks being received; without a writer those that were stored another way meanwhile.
    writers: BTreeMap<u32, Option<ChunkWriter>>,
    /// Chunks that wait for their sync.
    syncing: Vec<Committed>,
}

impl BlobStore {
    /// Returns a sink for `blob`, whose chunks have these digests.
    pub fn replica_sink(self: &Arc<Self>, blob: &Arc<Blob>, digests: Vec<Digest>) -> ReplicaSink {
        ReplicaSink { store: self.clone(), blob: blob.clone(), digests, state: Mutex::default() }
    }
}

impl ReplicaSink {
    /// Abandons chunks that are not whole, and waits until every verified one is synced and counts.
    ///
    /// # Errors
    /// With the first verified chunk that does not count.
    pub async fn finish(&self) -> Result<(), BlobError> {
        let syncing = std::mem::take(&mut self.state().syncing);
        self.state().writers.clear();
        let all = async {
            for committed in syncing {
                committed.await.map_err(|_| BlobError::Unsynced)??;
            }
            Ok(())
        };
        timeout(LAST_SYNCS_TIMEOUT, all).await.unwrap_or(Err(BlobError::DiskTimeout))
    }

    /// Returns true if bytes at `offset` are to be written: not where the chunk was stored another way meanwhile. The first
    /// bytes of a chunk open its writer; a chunk that an abandoned request had begun is begun anew.
    fn accepts(&self, chunk: ChunkIndex, offset: u64) -> io::Result<bool> {
        if self.blob.is_deleted() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.state();
        if self.blob.layout().bytes_of(chunk).start == offset {
            state.writers.remove(&chunk.get());
            let writer = self.store.try_chunk_writer(&self.blob, chunk)?;
            state.writers.insert(chunk.get(), writer);
        }
        Ok(state.writers.get(&chunk.get()).is_some_and(Option::is_some))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for ReplicaSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let layout = self.blob.layout();
        let run = layout.run_of_bytes(offset..offset.saturating_add(1));
        let chunk = layout.chunk(run.start).ok_or(io::ErrorKind::InvalidInput)?;
        if !self.accepts(chunk, offset)? {
            return Ok(());
        }
        self.store.metrics().replicated_bytes.inc_by(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        beside_other_tasks(|| self.blob.write_at(bytes, offset))
    }

    fn verified(&self, chunk: ChunkIndex, _: Digest) -> io::Result<()> {
        let mut state = self.state();
        let Some(writer) = state.writers.remove(&chunk.get()).flatten() else { return Ok(()) };
        let position = usize::try_from(chunk.get()).unwrap_or(usize::MAX);
        let digest = *self.digests.get(position).ok_or(io::ErrorKind::InvalidInput)?;
        let Some(written) = writer.finish_verified(digest) else { return Ok(()) };
        let (pending, committed) = PendingChunk::new(written);
        let queued = self.store.commits().try_send(pending);
        queued.map_err(|_| io::Error::other("the disk is slower than the network: too many chunks wait for a sync"))?;
        self.store.metrics().replicated_chunks.inc();
        state.syncing.push(committed);
        take_outcomes(&mut state.syncing)
    }

    fn explain(&self, error: io::Error) -> SinkError {
        let (path, needed) = (self.blob.id().to_string().into(), self.blob.layout().size());
        let error = BlobError::Disk(error);
        if error.is_full() {
            return SinkError::Full { path, needed };
        }
        SinkError::Io { doing: "write", path, source: io::Error::other(error) }
    }
}

/// Takes the commits that ended out of `syncing`: a disk that fails is noticed at the next chunk, not at the end.
fn take_outcomes(syncing: &mut Vec<Committed>) -> io::Result<()> {
    let mut outcome = Ok(());
    syncing.retain_mut(|committed| {
        let failure = match committed.try_recv() {
            Ok(Ok(())) => return false,
            Err(TryRecvError::Empty) => return true,
            Ok(Err(error)) => error,
            Err(TryRecvError::Closed) => BlobError::Unsynced,
        };
        outcome = Err(io_error(&failure));
        false
    });
    outcome
}

fn io_error(error: &BlobError) -> io::Error {
    if error.is_full() { io::ErrorKind::StorageFull.into() } else { io::Error::other(error.to_string()) }
}

/// Runs work that may wait for a disk without holding up the thread's other tasks.
fn beside_other_tasks<T>(work: impl FnOnce() -> T) -> T {
    // A runtime with a single thread has no other one to hand its tasks to.
    let many = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if many { tokio::task::block_in_place(work) } else { work() }
}
