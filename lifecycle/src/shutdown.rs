//! Stopping in two steps: finish what runs, then drop what is left.

use std::{io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::systemd;

/// How long requests in flight may take after the first signal.
pub const GRACE: Duration = Duration::from_secs(30);

/// The two steps, shared by everything that has to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    finish: CancellationToken,
    drop: CancellationToken,
}

impl Shutdown {
    /// Nothing is asked to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to finish: no new work, what runs may end.
    pub fn finish(&self) {
        self.finish.cancel();
    }

    /// Asks everything to drop what it is doing.
    pub fn abort(&self) {
        self.finish.cancel();
        self.drop.cancel();
    }

    /// Cancelled when work is to finish.
    pub const fn finishing(&self) -> &CancellationToken {
        &self.finish
    }

    /// Cancelled when work is to be dropped.
    pub const fn aborting(&self) -> &CancellationToken {
        &self.drop
    }

    /// Turns signals into the two steps; ends once both were taken.
    ///
    /// # Errors
    /// When signal handlers cannot be installed.
    pub async fn follow_signals(self, grace: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = self.finish.cancelled() => {}
        }
        tracing::info!(
            grace_s = grace.as_secs(),
            "stopping: requests in flight may finish, a second signal drops them"
        );
        systemd::notify_stopping();
        self.finish();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = self.drop.cancelled() => {}
            () = tokio::time::sleep(grace) => {}
        }
        self.abort();
        Ok(())
    }
}
