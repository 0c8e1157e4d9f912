//! Work that waits for a disk.

use super::error::DownloadError;

/// Runs `work` on a thread where waiting for a disk holds up no other task.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DownloadError> {
    // It fails only while the runtime is shutting down.
    tokio::task::spawn_blocking(work).await.map_err(|_| DownloadError::Interrupted)
}
