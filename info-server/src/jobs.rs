//! Collaborative downloads: what the info-server decides about them, and the task that stores each decision.
//!
//! The decisions are pure ([`job`] and what stands beside it). One task owns all jobs: requests hand it what they want, it
//! decides about as many as wait, stores what changed and what follows from it in one transaction, and answers when that is
//! on disk. So nobody ever sees what could be lost, and the disk is synced once for many reports.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use wire::{JobId, job::Reason};

use crate::error::{Error, Result};

pub(crate) mod askers;
pub(crate) mod asking;
pub(crate) mod board;
mod carry;
mod checks;
pub(crate) mod driver;
pub(crate) mod effects;
mod held;
pub(crate) mod holdings;
pub(crate) mod job;
mod lease;
mod origins;
pub(crate) mod report;
pub(crate) mod row;
mod shelf;
mod spans;
mod ticks;
#[cfg(test)]
mod trials;
mod tries;
pub(crate) mod turns;
mod view;

use asking::Asking;
use board::Board;
use holdings::Holdings;
use job::Moment;
use turns::{Turn, Turns};

/// Requests that may wait for a decision; beyond this the caller is told to come back.
const QUEUE: usize = 4096;
/// How long a caller waits for its decision.
const DEADLINE: Duration = Duration::from_secs(10);
/// Event streams open at once, altogether and of one account.
const STREAMS: usize = 1024;
const STREAMS_EACH: usize = 64;

/// What is decided on the jobs; it returns what answers the caller once that is on disk.
type Act = Box<dyn FnOnce(&mut Board, Moment) -> Answering + Send>;
type Answering = Box<dyn FnOnce() + Send>;

/// Where routes hand in what they want decided.
#[derive(Debug)]
pub(crate) struct Jobs {
    acts: mpsc::Sender<Act>,
    /// Ascends with every stored change.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) asking: Asking,
    pub(crate) numbers: Mutex<Numbers>,
    streams: Turns,
}

/// The other end, to be run as a task.
pub(crate) struct Inbox(mpsc::Receiver<Act>);

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    pub(crate) states: BTreeMap<&'static str, i64>,
    pub(crate) leases: i64,
    pub(crate) stale: u64,
    pub(crate) origin_bytes: u64,
    pub(crate) convicted: u64,
}

/// Both ends.
pub(crate) fn channel(asking: Asking) -> (Jobs, Inbox) {
    let (acts, inbox) = mpsc::channel(QUEUE);
    let jobs = Jobs {
        acts,
        changed: watch::Sender::new(0),
        asking,
        numbers: Mutex::default(),
        streams: Turns::new(STREAMS, STREAMS_EACH),
    };
    (jobs, Inbox(inbox))
}

const BUSY: Error = Error::Busy { status: 503, retry_after: 1, detail: "too much is being decided about jobs" };

impl Jobs {
    /// Decides something; returns once that is on disk.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait or the disk does not keep up.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Board, Moment) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let act: Act = Box::new(move |board, now| {
            let value = decide(board, now);
            // A caller that gave up is not waiting for this.
            Box::new(move || drop(answer.send(value)))
        });
        self.acts.try_send(act).map_err(|_| BUSY)?;
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(anyhow::anyhow!("a decision about a job could not be stored").into()),
            Err(_) => Err(BUSY),
        }
    }

    /// What a job's file is made of so far; none once it stands in the catalogue for its own sake, and when the job is over.
    ///
    /// # Errors
    /// See [`Self::act`].
    pub(crate) async fn holdings(&self, job: JobId) -> Result<Option<Holdings>> {
        self.act(move |board, _| board.jobs.get(&job).and_then(|job| job.holdings())).await
    }

    /// The right to one more stream of events.
    pub(crate) fn stream(&self, user: i64) -> Option<Turn> {
        self.streams.try_take(user)
    }
}

/// A panic while it was held cannot leave it half changed: every change is one value.
pub(crate) fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The word of a reason in JSON.
pub(crate) fn word(reason: Reason) -> serde_json::Value {
    serde_json::to_value(reason).unwrap_or_default()
}

/// Seconds without a report after which a lease is over.
pub(crate) fn lease_seconds() -> u32 {
    u32::try_from(lease::LEASE.as_secs()).unwrap_or(u32::MAX)
}
