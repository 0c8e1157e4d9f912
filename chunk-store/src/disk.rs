//! Work that may wait for a disk: off the asynchronous threads, and with a deadline.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BlobError;

/// Time that a disk may take for one step before it counts as stalled.
pub(crate) const DISK_TIMEOUT: Duration = Duration::from_secs(10);
/// Threads that may wait for the disk to write, and to read: the other threads of the pool stay free when it stalls.
const MAX_WRITING_THREADS: usize = 64;
const MAX_READING_THREADS: usize = 128;

/// Permits to occupy a thread while the disk works. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct DiskPermits {
    write: Arc<Semaphore>,
    read: Arc<Semaphore>,
}

impl Default for DiskPermits {
    fn default() -> Self {
        Self {
            write: Arc::new(Semaphore::new(MAX_WRITING_THREADS)),
            read: Arc::new(Semaphore::new(MAX_READING_THREADS)),
        }
    }
}

impl DiskPermits {
    /// Waits for a permit to write. It is to be moved into the work that writes.
    pub(crate) async fn write(&self) -> Result<OwnedSemaphorePermit, BlobError> {
        with_disk_timeout(async { self.write.clone().acquire_owned().await.map_err(|_| BlobError::DiskTimeout) }).await
    }

    /// Waits for a permit to read, for as long as it takes; `None` never, as the semaphore is not closed.
    pub(crate) async fn read(&self) -> Option<OwnedSemaphorePermit> {
        self.read.clone().acquire_owned().await.ok()
    }
}

/// Abandons `step` when the disk stalls. Work that has begun goes on where it blocks no request.
///
/// # Errors
/// With the step's own error, or [`BlobError::DiskTimeout`].
pub async fn with_disk_timeout<T>(step: impl Future<Output = Result<T, BlobError>>) -> Result<T, BlobError> {
    tokio::time::timeout(DISK_TIMEOUT, step).await.unwrap_or(Err(BlobError::DiskTimeout))
}

/// Runs work that may wait for a disk on a thread where it blocks no request.
///
/// # Errors
/// With the work's own error, or when it panicked.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
