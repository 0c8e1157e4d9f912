//! Fetching spans of URLs: a worker of jobs.
//!
//! The info-server alone decides who fetches what and for how long; a hint only says that there may be something to do. What
//! is fetched lies in an ordinary blob, counts like an upload once it is synced, and is served like every other chunk.
//! Nothing but the chunks is remembered: after a start, the jobs of which something is here are asked about.

use std::{collections::HashMap, sync::Arc};

use lifecycle::Shutdown;
use origin::Origins;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{server::Server, store::StoreError};

mod hints;
mod job;
mod lease;
mod line;
mod work;

pub(crate) use hints::Hints;

/// Works on jobs.
#[derive(Debug)]
pub(crate) struct Fetcher {
    server: Arc<Server>,
    origins: Origins,
    /// Jobs at a time.
    most: usize,
}

impl Fetcher {
    pub(crate) fn new(server: Arc<Server>, origins: Origins, most: usize) -> Self {
        Self { server, origins, most }
    }

    /// Works on jobs until `shutdown`.
    pub(crate) async fn keep_fetching(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let hints = self.server.hints.clone();
        tokio::select! {
            () = self.server.registration() => {}
            () = finishing.cancelled() => return Ok(()),
        }
        if let Err(error) = self.take_up().await {
            tracing::error!(%error, "the jobs of which something is here cannot be looked up");
        }
        let (mut running, mut tasks) = (HashMap::new(), JoinSet::new());
        loop {
            hints.drop_if(|job| running.contains_key(job));
            while running.len() < self.most
                && let Some(job) = hints.next()
            {
                let stop = CancellationToken::new();
                running.insert(job, stop.clone());
                let (server, origins) = (self.server.clone(), self.origins.clone());
                tasks.spawn(async move { (job, Box::pin(job::work(server, origins, job, stop)).await) });
            }
            self.server.metrics.jobs.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
            tokio::select! {
                () = hints.told() => {}
                Some(ended) = tasks.join_next() => {
                    let (job, left) = ended?;
                    running.remove(&job);
                    if left == job::Left::More {
                        hints.tell(job);
                    }
                }
                () = finishing.cancelled() => break,
            }
        }
        running.values().for_each(CancellationToken::cancel);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// After a start: goes on with the jobs of which something is here, and asks what is to become of their files.
    async fn take_up(&self) -> Result<(), StoreError> {
        for (file, job) in self.server.store.fetched().await? {
            self.server.store.ask_about(file).await?;
            self.server.hints.tell(job);
        }
        self.server.asking.notify_one();
        Ok(())
    }
}

/// How an attempt at a span or a job ended, when it is not simply over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// All of it is fetched and told.
    Over,
    /// Somebody else does what is left.
    Stale,
    /// It was given up, and the info-server knows why.
    Failed,
    /// There is nothing more to do for the job.
    Gone,
}
