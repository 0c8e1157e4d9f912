//! Named background tasks, whose failure stops the program.

use std::{collections::HashMap, future::Future, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::Shutdown;

/// Background tasks of one program.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. It should end soon after [`Shutdown::finishing`], and not before.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let handle = self.set.spawn(task.instrument(tracing::info_span!("task", name)));
        self.names.insert(handle.id(), name);
    }

    /// Waits until every task has ended.
    ///
    /// A task that ends before shutdown stops the program, because a server without its relay or its heartbeat must not appear
    /// alive.
    ///
    /// # Errors
    /// Names the first task that failed, panicked or ended too early.
    pub async fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        loop {
            let ended = tokio::select! {
                ended = self.set.join_next_with_id() => ended,
                () = shutdown.aborting().cancelled() => break,
            };
            let Some(ended) = ended else { break };
            let early = !shutdown.finishing().is_cancelled();
            if let Err(error) = self.check_end(ended, early) {
                tracing::error!("{error:#}");
                outcome = outcome.and(Err(error));
                shutdown.finish();
            }
        }
        self.set.shutdown().await;
        outcome
    }

    fn check_end(&self, ended: Result<(Id, anyhow::Result<()>), JoinError>, early: bool) -> anyhow::Result<()> {
        let name = |id| self.names.get(&id).copied().unwrap_or("unnamed");
        match ended {
            Ok((id, Ok(()))) if early => Err(anyhow!("background task '{}' ended before shutdown", name(id))),
            Ok((_, Ok(()))) => Ok(()),
            Ok((id, Err(error))) => Err(error).with_context(|| format!("background task '{}' failed", name(id))),
            Err(error) => Err(anyhow!("background task '{}' panicked: {error}", name(error.id()))),
        }
    }
}

/// The rounds of a task that does the same work again and again until it is stopped.
#[derive(Debug)]
pub struct Rounds {
    interval: Duration,
    stop: CancellationToken,
    work: &'static str,
    failing: bool,
}

impl Rounds {
    /// Makes rounds, each `interval` after the end of the one before; `work` names the work in the log.
    pub const fn new(interval: Duration, stop: CancellationToken, work: &'static str) -> Self {
        Self { interval, stop, work, failing: false }
    }

    /// Waits for the next round; returns false at the stop.
    pub async fn next(&mut self) -> bool {
        self.stop.run_until_cancelled(tokio::time::sleep(self.interval)).await.is_some()
    }

    /// Ends a round. The first of consecutive failures is logged as a warning.
    pub fn end(&mut self, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("{} failed and is tried again: {error:#}", self.work);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_too_early_stops_the_program_and_is_named() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        tasks.spawn("relay", async { Ok(()) });
        let other = shutdown.clone();
        tasks.spawn("heartbeat", async move {
            other.finishing().cancelled().await;
            Ok(())
        });
        let error = tasks.run(&shutdown).await.unwrap_err();
        assert!(error.to_string().contains("'relay' ended before shutdown"), "{error}");
    }

    #[tokio::test]
    async fn tasks_that_finish_when_asked_end_well() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        let other = shutdown.clone();
        tasks.spawn("heartbeat", async move {
            other.finishing().cancelled().await;
            Ok(())
        });
        shutdown.finish();
        tasks.run(&shutdown).await.unwrap();
    }

    #[tokio::test]
    async fn tasks_that_do_not_finish_are_dropped() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        shutdown.abort();
        tasks.run(&shutdown).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_go_on_after_a_failure_and_end_at_the_stop() {
        let (stop, begun) = (CancellationToken::new(), tokio::time::Instant::now());
        let mut rounds = Rounds::new(Duration::from_secs(1), stop.clone(), "the work");
        let mut done = 0;
        while rounds.next().await {
            done += 1;
            rounds.end(Err(anyhow!("no luck")));
            if done == 5 {
                stop.cancel();
            }
        }
        assert_eq!((done, begun.elapsed()), (5, Duration::from_secs(5)));
    }
}
