//! Group commit of tokens: whatever is asked for while one transaction is being synced goes into the next one together.
//!
//! Each transaction holds the tokens' rows and one event per zone that must hear of them, so that a token that was
//! answered is always one that file servers will hear of.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};
use wire::{
    Digest, Zone,
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
    /// Whether the token was made.
    done: oneshot::Sender<bool>,
}

/// Where routes hand tokens in.
#[derive(Debug, Clone)]
pub struct Grants {
    requests: mpsc::Sender<Request>,
    issued: Counter,
}

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
    (Grants { requests: sender, issued: Counter::default() }, Committer { requests, store, log })
}

impl Grants {
    /// How many were committed.
    pub(crate) fn issued(&self) -> Counter {
        self.issued.clone()
    }

    /// Stores a token and its events; returns once both are on disk.
    ///
    /// # Errors
    /// [`crate::error::Error::Busy`] when too many wait or the disk does not keep up; 401 when the log-in that asks ended
    /// meanwhile.
    pub async fn commit(&self, token: NewToken, zones: Vec<Zone>) -> crate::error::Result<()> {
        let (done, committed) = oneshot::channel();
        let busy = crate::error::Error::Busy { status: 503, retry_after: 1, detail: "too many tokens are being made" };
        if self.requests.try_send(Request { token, zones, done }).is_err() {
            return Err(busy);
        }
        match tokio::time::timeout(DEADLINE, committed).await {
            Ok(Ok(true)) => {
                self.issued.inc();
                Ok(())
            }
            Ok(Ok(false)) => Err(crate::caller::ended()),
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
                Ok((newest, stored)) => {
                    self.log.committed(newest);
                    // A caller that gave up is not waiting for this.
                    for request in batch.drain(..) {
                        let _ = request.done.send(stored.contains(&request.token.grant.token_hash));
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

    /// The newest event, and the tokens that were made.
    async fn commit(&self, batch: &[Request]) -> anyhow::Result<(u64, HashSet<Digest>)> {
        let now = Timestamp::now();
        let new: Vec<NewToken> = batch.iter().map(|request| request.token.clone()).collect();
        let mut newest = 0;
        let mut write = self.store.write().await?;
        let stored = tokens::add_tokens(&mut write, &new).await?;
        let mut by_zone: BTreeMap<&Zone, Vec<Grant>> = BTreeMap::new();
        for request in batch.iter().filter(|request| stored.contains(&request.token.grant.token_hash)) {
            for zone in &request.zones {
                by_zone.entry(zone).or_default().push(request.token.grant.clone());
            }
        }
        for (zone, grants) in by_zone {
            let fact = Fact::TokenGranted { grants };
            newest = outbox::append(&mut write, &Stream::Zone(zone.clone()), &fact, now).await?;
        }
        write.commit().await.context("the commit")?;
        Ok((newest, stored))
    }
}

#[cfg(test)]
mod tests {
    use wire::{Digest, FileId, TokenId, token::Purpose};

    use super::*;
    use crate::{
        error::Error,
        store::accounts::{self, Change, NewSession, Role},
    };

    fn token(n: u8, session: Option<Digest>) -> NewToken {
        let grant = Grant {
            token_hash: Digest::of(&[n]),
            token_id: TokenId::new(),
            file: FileId::new(),
            zones: None,
            expires_at: Timestamp::now() + Duration::from_secs(60),
            purpose: Purpose::Download,
        };
        NewToken { grant, user_id: 1, session, address: None }
    }

    #[tokio::test]
    async fn a_token_whose_log_in_ended_while_it_waited_is_not_made_and_no_server_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.sqlite")).await.unwrap();
        let (now, session) = (Timestamp::now(), Digest::of(b"session"));
        let mut write = store.write().await.unwrap();
        accounts::add_user(&mut write, "a@x", "hash", Role::Reader, now).await.unwrap();
        let expires_at = now + Duration::from_secs(60);
        let new = NewSession { token_hash: session, user_id: 1, expires_at, address: None, zone: None };
        accounts::add_session(&mut write, &new, now).await.unwrap();
        write.commit().await.unwrap();
        let (grants, committer) = channel(store.clone(), Log::new());
        let committing = tokio::spawn(committer.run());
        let zones: Vec<Zone> = vec!["eu".parse().unwrap()];
        grants.commit(token(1, Some(session)), zones.clone()).await.unwrap();

        // The account is shut in a transaction that begins before the token's and ends while that one waits.
        let mut write = store.write().await.unwrap();
        let late = tokio::spawn({
            let (grants, zones) = (grants.clone(), zones.clone());
            async move { grants.commit(token(2, Some(session)), zones).await }
        });
        let shut = Change { disabled: Some(true), ..Change::default() };
        accounts::change(&mut write, "a@x", &shut, now).await.unwrap();
        write.commit().await.unwrap();
        assert!(matches!(late.await.unwrap(), Err(Error::Unauthenticated(_))));
        grants.commit(token(3, None), zones).await.unwrap();

        for (n, made) in [(1, false), (2, false), (3, true)] {
            assert_eq!(store.grant(Digest::of(&[n]), now).await.unwrap().is_some(), made, "{n}");
        }
        let told: Vec<Fact> = store.waiting(10).await.unwrap().into_iter().map(|event| event.fact).collect();
        let granted = told.iter().filter(|fact| matches!(fact, Fact::TokenGranted { .. })).count();
        assert_eq!((told.len(), granted), (3, 2), "{told:?}");
        drop(grants);
        committing.await.unwrap().unwrap();
    }
}
