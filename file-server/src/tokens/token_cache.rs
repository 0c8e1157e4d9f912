//! Tokens in memory, over the database. A token without a record is looked up at the info-server, once.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use http_front::observe;
use info_client::FileServerClient;
use lifecycle::fault_log::FaultLog;
use moka::future::Cache;
use tokio::sync::Semaphore;
use wire::{
    Digest,
    token::{Grant, TokenKind},
};

use crate::{
    db::{Database, DatabaseError, tokens::TokenStatus},
    metrics::Metrics,
};

static GRANT_FAULTS: FaultLog = FaultLog::new("The grant of an introspected token cannot be stored");
static TOKEN_FAULTS: FaultLog = FaultLog::new("A token could not be looked up in the database");

/// Time for which an unknown token is refused without another look-up. Short: the token may be on its way.
const UNKNOWN_TTL: Duration = Duration::from_secs(1);
/// Unknown tokens kept in memory.
const MAX_UNKNOWN_TOKENS: u64 = 16_384;
/// Revocations kept in memory, so that the answer to an earlier introspection cannot undo one.
const MAX_REVOKED_TOKENS: u64 = 65_536;
/// Introspections in flight: a flood of made-up tokens must not become a flood of requests to the info-server.
const MAX_INTROSPECTIONS: usize = 32;
/// Time to wait for a permit to send an introspection.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(500);

/// Result of the look-up of a token.
#[derive(Debug, Clone)]
pub(crate) enum TokenLookup {
    /// Issued token, with its grant.
    Granted(Arc<Grant>),
    /// Token that was revoked, or never issued.
    Refused,
}

/// Reason why a token cannot be checked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undecidable {
    /// The token has no record here, and the info-server does not answer in time.
    InfoServer,
    /// The database failed.
    Database,
}

/// Reason why a look-up found nothing to keep.
#[derive(Debug, Clone, Copy)]
enum Miss {
    /// The info-server has no such token.
    Unknown,
    /// No information about the token could be had.
    Undecidable(Undecidable),
}

/// The tokens of one server.
#[derive(Debug)]
pub(crate) struct TokenCache {
    known: Cache<Digest, TokenLookup>,
    unknown: Cache<Digest, ()>,
    revoked: Cache<Digest, ()>,
    introspections: Semaphore,
    db: Database,
    info: FileServerClient,
    metrics: Arc<Metrics>,
}

impl TokenCache {
    pub(crate) fn new(db: Database, info: FileServerClient, metrics: Arc<Metrics>, max_tokens: u64) -> Self {
        Self {
            known: Cache::new(max_tokens),
            unknown: Cache::builder().max_capacity(MAX_UNKNOWN_TOKENS).time_to_live(UNKNOWN_TTL).build(),
            revoked: Cache::new(MAX_REVOKED_TOKENS),
            introspections: Semaphore::new(MAX_INTROSPECTIONS),
            db,
            info,
            metrics,
        }
    }

    /// Returns the grant of the token with this hash, if it is in memory and not revoked. Counts nothing.
    pub(crate) fn find_in_memory(&self, hash: &Digest) -> Option<Arc<Grant>> {
        // A look-up that has to wait for the cache's own upkeep counts as a miss.
        let TokenLookup::Granted(grant) = self.known.get(hash).now_or_never()?? else { return None };
        // After the look-up: `revoke` inserts here first.
        (!self.revoked.contains_key(hash)).then_some(grant)
    }

    /// Looks the token with this hash up in memory, in the database, and last at the info-server.
    pub(crate) async fn find(&self, kind: TokenKind, hash: Digest) -> Result<TokenLookup, Undecidable> {
        if !matches!(kind, TokenKind::Download | TokenKind::Upload) {
            return Ok(TokenLookup::Refused);
        }
        if self.revoked.contains_key(&hash) {
            return Ok(TokenLookup::Refused);
        }
        if let Some(known) = self.known.get(&hash).await {
            self.metrics.token_hits.inc();
            return Ok(known);
        }
        if self.unknown.contains_key(&hash) {
            return Ok(TokenLookup::Refused);
        }
        self.metrics.token_misses.inc();
        // One look-up per token, however many requests bring it.
        let found = self.known.try_get_with(hash, self.look_up(hash)).await;
        if self.revoked.contains_key(&hash) {
            // Revoked while it was looked up: what was found must not stay.
            self.known.invalidate(&hash).await;
            return Ok(TokenLookup::Refused);
        }
        match found.map_err(|miss| *miss) {
            Ok(presented) => Ok(presented),
            Err(Miss::Unknown) => Ok(TokenLookup::Refused),
            Err(Miss::Undecidable(reason)) => {
                self.metrics.undecided.inc();
                Err(reason)
            }
        }
    }

    async fn look_up(&self, hash: Digest) -> Result<TokenLookup, Miss> {
        let stored = self.db.note(self.db.token(hash).await).map_err(|error| failed(&error))?;
        if let Some(status) = stored {
            return Ok(lookup(status));
        }
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, self.introspections.acquire()).await;
        let _permit = permit.ok().and_then(Result::ok).ok_or(Miss::Undecidable(Undecidable::InfoServer))?;
        self.metrics.introspections.inc();
        match self.info.introspect(hash, observe::current_trace()).await {
            Ok(Some(grant)) if grant.token_hash == hash => {
                if let Err(error) = self.db.add_introspected_grant(&grant).await {
                    // The answer holds, whether or not it can be stored; revocations reach the memory, too.
                    GRANT_FAULTS.failed(error);
                    return Ok(TokenLookup::Granted(Arc::new(grant)));
                }
                // A revocation may have come first; then it is what the database holds.
                let stored = self.db.note(self.db.token(hash).await).map_err(|error| failed(&error))?;
                Ok(stored.map_or(TokenLookup::Granted(Arc::new(grant)), lookup))
            }
            Ok(_) => {
                self.unknown.insert(hash, ()).await;
                Err(Miss::Unknown)
            }
            Err(error) => {
                tracing::debug!(%error, "The info-server did not answer an introspection");
                Err(Miss::Undecidable(Undecidable::InfoServer))
            }
        }
    }

    /// Drops what is in memory about tokens that an event granted.
    pub(crate) async fn invalidate(&self, granted: &[Digest]) {
        for hash in granted {
            self.unknown.invalidate(hash).await;
            self.known.invalidate(hash).await;
        }
    }

    /// Refuses these tokens from now on.
    pub(crate) async fn revoke(&self, revoked: &[Digest]) {
        for hash in revoked {
            // In this order: a concurrent look-up checks `revoked` after it has found the token in `known`.
            self.revoked.insert(*hash, ()).await;
            self.known.invalidate(hash).await;
        }
    }

    /// Returns the approximate number of tokens in memory.
    pub(crate) fn count(&self) -> u64 {
        self.known.entry_count()
    }

    /// Drops everything but revocations: the catalogue has another epoch.
    pub(crate) fn invalidate_all(&self) {
        self.known.invalidate_all();
        self.unknown.invalidate_all();
    }
}

fn lookup(status: TokenStatus) -> TokenLookup {
    match status {
        TokenStatus::Granted(grant) => TokenLookup::Granted(Arc::new(grant)),
        TokenStatus::Revoked => TokenLookup::Refused,
    }
}

/// Logs a failed look-up.
fn failed(error: &DatabaseError) -> Miss {
    TOKEN_FAULTS.failed(error);
    Miss::Undecidable(Undecidable::Database)
}
