//! Shutdown in two steps: running requests finish, then what is left is dropped.

use std::{io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::systemd;

/// Time that requests in flight have after the first signal.
pub const GRACE: Duration = Duration::from_secs(30);

/// Logs each SIGHUP with a `note` from now on. Without a handler the signal would end the process with requests in flight.
///
/// # Errors
/// When the signal handler cannot be installed.
pub fn note_hangups(note: &'static str) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP: {note}");
        }
    });
    Ok(())
}

/// Handle of the two steps, shared by all tasks that must stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    finish: CancellationToken,
    drop: CancellationToken,
}

impl Shutdown {
    /// Creates a handle of which neither step was taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the first step: no new work starts, running work may finish.
    pub fn finish(&self) {
        self.finish.cancel();
    }

    /// Takes both steps: running work is dropped.
    pub fn abort(&self) {
        self.finish.cancel();
        self.drop.cancel();
    }

    /// Returns the token that the first step cancels.
    pub const fn finishing(&self) -> &CancellationToken {
        &self.finish
    }

    /// Returns the token that the second step cancels.
    pub const fn aborting(&self) -> &CancellationToken {
        &self.drop
    }

    /// Follows signals as [`Self::follow_signals`] does, and SIGHUP, for a program that ends with its terminal. Without a
    /// handler it would end
    /// the process at once.
    ///
    /// # Errors
    /// When signal handlers cannot be installed.
    pub async fn follow_signals_and_hangup(self, grace: Duration) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let follow = self.clone().follow_signals(grace);
        tokio::pin!(follow);
        tokio::select! {
            outcome = &mut follow => return outcome,
            _ = hangup.recv() => self.finish(),
        }
        follow.await
    }

    /// Takes the first step at the first SIGTERM or SIGINT, and the second one at the second signal or after `grace`. Returns once
    /// both were taken.
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
            "Stopping: requests in flight may finish within the grace period; a second signal drops them"
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
