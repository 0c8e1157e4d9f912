//! The task that works on jobs, a few at a time.
//!
//! The info-server alone decides which server fetches which span and for how long; a hint only names a job that may have work.
//! Fetched chunks go into an ordinary blob, count like uploaded ones once they are synced, and are served like every other
//! chunk. Nothing but the chunks is stored: after a start, this server claims work on the jobs of which it stores chunks.

use std::{collections::HashMap, sync::Arc};

use lifecycle::Shutdown;
use origin::Origins;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::job_worker::{JobOutcome, JobTask, work_on};
use crate::{
    db::{DatabaseError, url_fetches::JobFile},
    state::AppState,
};

/// Works on jobs.
#[derive(Debug)]
pub(crate) struct UrlFetcher {
    state: Arc<AppState>,
    origins: Origins,
    /// Jobs worked on at a time.
    max_jobs: usize,
}

impl UrlFetcher {
    pub(crate) fn new(state: Arc<AppState>, origins: Origins, max_jobs: usize) -> Self {
        Self { state, origins, max_jobs }
    }

    /// Works on jobs until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let finishing = shutdown.finishing();
        let hints = self.state.job_hints.clone();
        tokio::select! {
            () = self.state.until_registered() => {}
            () = finishing.cancelled() => return Ok(()),
        }
        if let Err(error) = self.resume_jobs().await {
            tracing::error!(%error, "Jobs with stored chunks cannot be looked up");
        }
        let (mut running, mut tasks) = (HashMap::new(), JoinSet::new());
        loop {
            hints.remove_if(|job| running.contains_key(job));
            while running.len() < self.max_jobs
                && let Some(job) = hints.next()
            {
                let stop = CancellationToken::new();
                running.insert(job, stop.clone());
                let task = JobTask { state: self.state.clone(), origins: self.origins.clone(), job };
                tasks.spawn(async move { (job, Box::pin(work_on(task, stop)).await) });
            }
            self.state.metrics.jobs.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
            tokio::select! {
                () = hints.added() => {}
                Some(ended) = tasks.join_next() => {
                    let (job, outcome) = ended?;
                    running.remove(&job);
                    if outcome == JobOutcome::Yielded {
                        hints.add(job);
                    }
                }
                () = finishing.cancelled() => break,
            }
        }
        running.values().for_each(CancellationToken::cancel);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Resumes, after a start, the jobs of which chunks are stored, and reconciles their files.
    async fn resume_jobs(&self) -> Result<(), DatabaseError> {
        for JobFile { file, job } in self.state.db.job_files().await? {
            self.state.db.question_file(file).await?;
            self.state.job_hints.add(job);
        }
        self.state.open_questions.notify_one();
        Ok(())
    }
}
