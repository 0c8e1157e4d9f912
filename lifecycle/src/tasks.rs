//! Background tasks that nobody loses sight of.

use std::{collections::HashMap, future::Future};

use anyhow::{Context as _, anyhow};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument as _;

use crate::Shutdown;

/// The named background tasks of one program.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// No tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task; it should end soon after [`Shutdown::finishing`], and not before.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let handle = self.set.spawn(task.instrument(tracing::info_span!("task", name)));
        self.names.insert(handle.id(), name);
    }

    /// Waits until every task has ended.
    ///
    /// A task that ends before the program is stopping takes the program with it: a server without its relay or its
    /// heartbeat must not look alive.
    ///
    /// # Errors
    /// The first task that failed, panicked or ended too early, by name.
    pub async fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        loop {
            let ended = tokio::select! {
                ended = self.set.join_next_with_id() => ended,
                () = shutdown.aborting().cancelled() => break,
            };
            let Some(ended) = ended else { break };
            let early = !shutdown.finishing().is_cancelled();
            if let Err(error) = self.judge(ended, early) {
                tracing::error!("{error:#}");
                outcome = outcome.and(Err(error));
                shutdown.finish();
            }
        }
        self.set.shutdown().await;
        outcome
    }

    fn judge(&self, ended: Result<(Id, anyhow::Result<()>), JoinError>, early: bool) -> anyhow::Result<()> {
        let name = |id| self.names.get(&id).copied().unwrap_or("unnamed");
        match ended {
            Ok((id, Ok(()))) if early => Err(anyhow!("background task '{}' ended before the program", name(id))),
            Ok((_, Ok(()))) => Ok(()),
            Ok((id, Err(error))) => Err(error).with_context(|| format!("background task '{}' failed", name(id))),
            Err(error) => Err(anyhow!("background task '{}' panicked: {error}", name(error.id()))),
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
        assert!(error.to_string().contains("'relay' ended before the program"), "{error}");
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
}
