//! Group commit of tokens: whatever is asked for while one transaction is being synced goes into the next one together.
//!
//! Each transaction holds the tokens' rows and one event per zone that receives them, so that every token that was
//! answered reaches the file servers.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use lifecycle::fault_log::FaultLog;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};
use wire::{
    Digest, Zone,
    event::{EventPayload, Stream},
    token::Grant,
};

use crate::{
    db::{Database, failures::StorageFault},
    error::{Error, Result, StorageFailure, session_ended},
    events::{log::EventLog, outbox},
    tokens::store::{self, NewToken},
};

static FAULTS: FaultLog = FaultLog::new("Tokens cannot be stored");

/// Tokens in one transaction.
const TRANSACTION_BATCH_SIZE: usize = 256;
/// Tokens that may wait; beyond this the caller is asked to come back.
const MAX_QUEUED_TOKENS: usize = 4096;
/// Longest wait of a caller for its commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

struct Request {
    token: NewToken,
    zones: Vec<Zone>,
    /// Sends true if the token was stored, or the fault of the database for which it was not.
    done: oneshot::Sender<std::result::Result<bool, Option<StorageFault>>>,
}

/// The end where routes hand tokens in.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    requests: mpsc::Sender<Request>,
    issued: Counter,
}

/// The end that commits, to be run as a task.
#[derive(Debug)]
pub struct Committer {
    requests: mpsc::Receiver<Request>,
    db: Database,
    log: EventLog,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("token", &self.token.grant.token_id).finish_non_exhaustive()
    }
}

/// Makes both ends.
pub fn channel(db: Database, log: EventLog) -> (GroupCommit, Committer) {
    let (sender, requests) = mpsc::channel(MAX_QUEUED_TOKENS);
    (GroupCommit { requests: sender, issued: Counter::default() }, Committer { requests, db, log })
}

impl GroupCommit {
    /// Returns the counter of committed tokens.
    pub(crate) fn issued(&self) -> Counter {
        self.issued.clone()
    }

    /// Stores a token and its events; returns once both are on disk.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait or the disk does not keep up; 401 when the log-in that asks ended
    /// meanwhile.
    pub async fn commit(&self, token: NewToken, zones: Vec<Zone>) -> Result<()> {
        let (done, committed) = oneshot::channel();
        let busy = Error::Busy { status: 503, retry_after: 1, detail: "too many tokens are being made" };
        if self.requests.try_send(Request { token, zones, done }).is_err() {
            return Err(busy);
        }
        match tokio::time::timeout(COMMIT_TIMEOUT, committed).await {
            Ok(Ok(Ok(true))) => {
                self.issued.inc();
                Ok(())
            }
            Ok(Ok(Ok(false))) => Err(session_ended()),
            Ok(Ok(Err(Some(fault)))) => Err(Error::Storage(StorageFailure { fault, cause: None })),
            Ok(Ok(Err(None)) | Err(_)) => Err(anyhow::anyhow!("a token could not be stored").into()),
            Err(_) => Err(busy),
        }
    }
}

impl Committer {
    /// Commits until every [`GroupCommit`] is gone.
    ///
    /// # Errors
    /// None: a transaction that fails is logged, and its callers receive an error.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(TRANSACTION_BATCH_SIZE);
        while self.requests.recv_many(&mut batch, TRANSACTION_BATCH_SIZE).await > 0 {
            match self.commit(&batch).await {
                Ok((newest, stored)) => {
                    self.log.announce(newest);
                    // A caller that gave up is not waiting for this.
                    for request in batch.drain(..) {
                        let _ = request.done.send(Ok(stored.contains(&request.token.grant.token_hash)));
                    }
                }
                Err(error) => {
                    let fault = self.db.note_failure(&error);
                    if fault.is_none() {
                        FAULTS.failed(format_args!("{error:#}"));
                    }
                    for request in batch.drain(..) {
                        let _ = request.done.send(Err(fault));
                    }
                }
            }
        }
        Ok(())
    }

    /// Commits a batch; returns the newest event and the tokens that were stored.
    async fn commit(&self, batch: &[Request]) -> anyhow::Result<(u64, HashSet<Digest>)> {
        let now = Timestamp::now();
        let new: Vec<NewToken> = batch.iter().map(|request| request.token.clone()).collect();
        let mut newest = 0;
        let mut write = self.db.write().await?;
        let stored = store::add_tokens(&mut write, &new).await?;
        let mut by_zone: BTreeMap<&Zone, Vec<Grant>> = BTreeMap::new();
        for request in batch.iter().filter(|request| stored.contains(&request.token.grant.token_hash)) {
            for zone in &request.zones {
                by_zone.entry(zone).or_default().push(request.token.grant.clone());
            }
        }
        for (zone, grants) in by_zone {
            let fact = EventPayload::TokenGranted { grants };
            newest = outbox::append(&mut write, &Stream::Zone(zone.clone()), &fact, now).await?;
        }
        write.commit().await.context("the commit")?;
        Ok((newest, stored))
    }
}

#[cfg(test)]
mod tests {
    use wire::{Digest, FileId, TokenId, account::Role, token::GrantPurpose};

    use super::*;
    use crate::{
        accounts::{
            self,
            account::{AccountChange, NewSession},
        },
        tokens::revocation::change_account,
    };

    fn token(n: u8, session: Option<Digest>) -> NewToken {
        let grant = Grant {
            token_hash: Digest::of(&[n]),
            token_id: TokenId::new(),
            file: FileId::new(),
            zones: None,
            expires_at: Timestamp::now() + Duration::from_secs(60),
            purpose: GrantPurpose::Download,
        };
        NewToken { grant, user_id: 1, session, address: None }
    }

    #[tokio::test]
    async fn a_token_whose_log_in_ended_while_it_waited_is_not_made_and_no_server_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("x.sqlite")).await.unwrap();
        let (now, session) = (Timestamp::now(), Digest::of(b"session"));
        let mut write = db.write().await.unwrap();
        accounts::store::add_user(&mut write, "a@x", "hash", Role::Reader, now).await.unwrap();
        let expires_at = now + Duration::from_secs(60);
        let new = NewSession { token_hash: session, user_id: 1, expires_at, address: None, zone: None };
        accounts::store::add_session(&mut write, &new, now).await.unwrap();
        write.commit().await.unwrap();
        let (grants, committer) = channel(db.clone(), EventLog::new());
        let committing = tokio::spawn(committer.run());
        let zones: Vec<Zone> = vec!["eu".parse().unwrap()];
        grants.commit(token(1, Some(session)), zones.clone()).await.unwrap();

        // The account is shut in a transaction that begins before the token's and ends while that one waits.
        let mut write = db.write().await.unwrap();
        let late = tokio::spawn({
            let (grants, zones) = (grants.clone(), zones.clone());
            async move { grants.commit(token(2, Some(session)), zones).await }
        });
        let shut = AccountChange { disabled: Some(true), ..AccountChange::default() };
        change_account(&mut write, "a@x", &shut, now).await.unwrap();
        write.commit().await.unwrap();
        assert!(matches!(late.await.unwrap(), Err(Error::Unauthenticated(_))));
        grants.commit(token(3, None), zones).await.unwrap();

        for (n, made) in [(1, false), (2, false), (3, true)] {
            assert_eq!(db.grant(Digest::of(&[n]), now).await.unwrap().is_some(), made, "{n}");
        }
        let events: Vec<EventPayload> = db.waiting(10).await.unwrap().into_iter().map(|event| event.payload).collect();
        let granted = events.iter().filter(|fact| matches!(fact, EventPayload::TokenGranted { .. })).count();
        assert_eq!((events.len(), granted), (3, 2), "{events:?}");
        drop(grants);
        committing.await.unwrap().unwrap();
    }
}
