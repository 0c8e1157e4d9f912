//! Group commit of tokens: whatever is asked for while one transaction is being synced goes into the next one together.
//!
//! Each transaction holds the tokens' rows and one event per zone that must hear of them, so that a token that was
//! answered is always one that file servers will hear of.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use wire::{
    Zone,
    event::{Fact, Stream},
    token::Grant,
};

use crate::{
    app::Log,
    store::{
        Store, outbox,
        tokens::{self, NewToken},
    },
};

/// Tokens in one transaction.
const BATCH: usize = 256;
/// Tokens that may wait; beyond this the caller is told to come back.
const QUEUE: usize = 4096;
/// How long a caller waits for its commit.
const DEADLINE: Duration = Duration::from_secs(5);

struct Request {
    token: NewToken,
    zones: Vec<Zone>,
    done: oneshot::Sender<()>,
}

/// Where routes hand tokens in.
#[derive(Debug, Clone)]
pub struct Grants(mpsc::Sender<Request>);

/// The other end, to be run as a task.
#[derive(Debug)]
pub struct Committer {
    requests: mpsc::Receiver<Request>,
    store: Store,
    log: Log,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("token", &self.token.grant.token_id).finish_non_exhaustive()
    }
}

/// Both ends.
pub fn channel(store: Store, log: Log) -> (Grants, Committer) {
    let (sender, requests) = mpsc::channel(QUEUE);
    (Grants(sender), Committer { requests, store, log })
}

impl Grants {
    /// Stores a token and its events; returns once both are on disk.
    ///
    /// # Errors
    /// [`crate::error::Error::Busy`] when too many wait or the disk does not keep up.
    pub async fn commit(&self, token: NewToken, zones: Vec<Zone>) -> crate::error::Result<()> {
        let (done, committed) = oneshot::channel();
        let busy = crate::error::Error::Busy { status: 503, retry_after: 1, detail: "too many tokens are being made" };
        if self.0.try_send(Request { token, zones, done }).is_err() {
            return Err(busy);
        }
        match tokio::time::timeout(DEADLINE, committed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(anyhow::anyhow!("a token could not be stored").into()),
            Err(_) => Err(busy),
        }
    }
}

impl Committer {
    /// Commits until every [`Grants`] is gone.
    ///
    /// # Errors
    /// None: a transaction that fails is logged and its callers are told.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        while self.requests.recv_many(&mut batch, BATCH).await > 0 {
            match self.commit(&batch).await {
                Ok(newest) => {
                    self.log.committed(newest);
                    // A caller that gave up is not waiting for this.
                    for request in batch.drain(..) {
                        let _ = request.done.send(());
                    }
                }
                Err(error) => {
                    tracing::error!(tokens = batch.len(), "cannot store tokens: {error:#}");
                    batch.clear();
                }
            }
        }
        Ok(())
    }

    async fn commit(&self, batch: &[Request]) -> anyhow::Result<u64> {
        let now = Timestamp::now();
        let new: Vec<NewToken> = batch.iter().map(|request| request.token.clone()).collect();
        let mut by_zone: BTreeMap<&Zone, Vec<Grant>> = BTreeMap::new();
        for request in batch {
            for zone in &request.zones {
                by_zone.entry(zone).or_default().push(request.token.grant.clone());
            }
        }
        let mut newest = 0;
        let mut write = self.store.write().await?;
        tokens::add_tokens(&mut write, &new).await?;
        for (zone, grants) in by_zone {
            let fact = Fact::TokenGranted { grants };
            newest = outbox::append(&mut write, &Stream::Zone(zone.clone()), &fact, now).await?;
        }
        write.commit().await.context("the commit")?;
        Ok(newest)
    }
}
