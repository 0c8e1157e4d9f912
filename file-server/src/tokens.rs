//! Who may do what. Known tokens are judged without asking anybody; unknown ones are asked about once.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use moka::future::Cache;
use tokio::sync::Semaphore;
use wire::{
    Digest, FileId, ServerId, Zone,
    token::{Grant, Kind, Purpose, Token},
};

use crate::{
    info::InfoServer,
    metrics::Metrics,
    store::{Standing, Store, StoreError},
};

/// How long "unknown" is believed. Short: the token may be on its way.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Unknown tokens remembered at once.
const MOST_UNKNOWN: u64 = 16_384;
/// Revocations remembered in memory, so that an answer asked for before one cannot undo it.
const MOST_REVOKED: u64 = 65_536;
/// Questions to the info-server open at once: a flood of made-up tokens must not become one of questions.
const QUESTIONS: usize = 32;
/// How long to wait for one's turn to ask.
const TURN: Duration = Duration::from_millis(500);

/// What is known of a presented token.
#[derive(Debug, Clone)]
pub(crate) enum Presented {
    /// It was issued and allows this.
    Granted(Arc<Grant>),
    /// It was revoked, or never issued.
    Refused,
}

/// Nothing is known of the token, and nobody can be asked.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nobody can say now what the token allows")]
pub(crate) struct Undecidable;

/// Why a look-up found nothing to remember for long.
#[derive(Debug, Clone, Copy)]
enum Miss {
    /// The info-server knows no such token.
    Unknown,
    /// The database failed, or the info-server did not answer in time.
    Undecidable,
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Read content.
    Read,
    /// Write chunks.
    Write,
    /// See which chunks are here.
    List,
}

/// The tokens of one server.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: Cache<Digest, Presented>,
    unknown: Cache<Digest, ()>,
    revoked: Cache<Digest, ()>,
    questions: Semaphore,
    store: Store,
    info: InfoServer,
    metrics: Arc<Metrics>,
}

impl Tokens {
    pub(crate) fn new(store: Store, info: InfoServer, metrics: Arc<Metrics>, most: u64) -> Self {
        Self {
            known: Cache::new(most),
            unknown: Cache::builder().max_capacity(MOST_UNKNOWN).time_to_live(UNKNOWN_FOR).build(),
            revoked: Cache::new(MOST_REVOKED),
            questions: Semaphore::new(QUESTIONS),
            store,
            info,
            metrics,
        }
    }

    /// What is known of `token`; the info-server is asked when nothing is.
    pub(crate) async fn find(&self, token: &Token) -> Result<Presented, Undecidable> {
        if !matches!(token.kind(), Kind::Download | Kind::Upload) {
            return Ok(Presented::Refused);
        }
        let hash = token.hash();
        if self.revoked.contains_key(&hash) {
            return Ok(Presented::Refused);
        }
        if let Some(known) = self.known.get(&hash).await {
            self.metrics.token_hits.inc();
            return Ok(known);
        }
        if self.unknown.contains_key(&hash) {
            return Ok(Presented::Refused);
        }
        self.metrics.token_misses.inc();
        // One look-up per token, however many requests bring it.
        let found = self.known.try_get_with(hash, self.look_up(hash)).await;
        if self.revoked.contains_key(&hash) {
            // Revoked while it was looked up: what was found must not stay.
            self.known.invalidate(&hash).await;
            return Ok(Presented::Refused);
        }
        match found.map_err(|miss| *miss) {
            Ok(presented) => Ok(presented),
            Err(Miss::Unknown) => Ok(Presented::Refused),
            Err(Miss::Undecidable) => {
                self.metrics.undecided.inc();
                Err(Undecidable)
            }
        }
    }

    async fn look_up(&self, hash: Digest) -> Result<Presented, Miss> {
        let stored = self.store.token(hash).await.map_err(|error| failed(&error))?;
        if let Some(standing) = stored {
            return Ok(presented(standing));
        }
        let turn = tokio::time::timeout(TURN, self.questions.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(Miss::Undecidable)?;
        self.metrics.introspections.inc();
        match self.info.introspect(hash).await {
            Ok(Some(grant)) if grant.token_hash == hash => {
                if let Err(error) = self.store.add_answered_grant(&grant).await {
                    // What was answered holds, whether or not it can be written down; revocations reach what is in memory, too.
                    tracing::error!(%error, "a token that was looked up cannot be stored");
                    return Ok(Presented::Granted(Arc::new(grant)));
                }
                // A revocation may have come first; then it is what the database holds.
                let stored = self.store.token(hash).await.map_err(|error| failed(&error))?;
                Ok(stored.map_or(Presented::Granted(Arc::new(grant)), presented))
            }
            Ok(_) => {
                self.unknown.insert(hash, ()).await;
                Err(Miss::Unknown)
            }
            Err(error) => {
                tracing::debug!(%error, "a token could not be asked about");
                Err(Miss::Undecidable)
            }
        }
    }

    /// A fact granted these tokens: what was remembered about them is out of date.
    pub(crate) async fn forget(&self, granted: &[Digest]) {
        for hash in granted {
            self.unknown.invalidate(hash).await;
            self.known.invalidate(hash).await;
        }
    }

    /// A fact revoked these tokens.
    pub(crate) async fn revoke(&self, revoked: &[Digest]) {
        for hash in revoked {
            // In this order: whoever looks up meanwhile checks the first after having found the second.
            self.revoked.insert(*hash, ()).await;
            self.known.invalidate(hash).await;
        }
    }

    /// How many are in memory, about.
    pub(crate) fn cached(&self) -> u64 {
        self.known.entry_count()
    }

    /// A new life of the catalogue: nothing that was remembered holds.
    pub(crate) fn forget_all(&self) {
        self.known.invalidate_all();
        self.unknown.invalidate_all();
    }
}

fn presented(standing: Standing) -> Presented {
    match standing {
        Standing::Granted(grant) => Presented::Granted(Arc::new(grant)),
        Standing::Revoked => Presented::Refused,
    }
}

fn failed(error: &StoreError) -> Miss {
    tracing::error!(%error, "a token could not be looked up");
    Miss::Undecidable
}

/// Whether `grant` allows `need` on `file`, here and now.
pub(crate) fn allows(grant: &Grant, file: FileId, need: Need, here: (&ServerId, &Zone), now: Timestamp) -> bool {
    let (server, zone) = here;
    let purpose = match (&grant.purpose, need) {
        (Purpose::Download, Need::Read | Need::List) => true,
        (Purpose::Upload { targets, .. }, Need::Write | Need::List) => targets.contains(server),
        (Purpose::Download, Need::Write) | (Purpose::Upload { .. }, Need::Read) => false,
    };
    purpose
        && grant.file == file
        && now < grant.expires_at
        && grant.zones.as_ref().is_none_or(|zones| zones.contains(zone))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use wire::TokenId;

    use super::*;

    #[test]
    fn a_grant_allows_its_own_file_purpose_place_and_time_only() {
        let now: Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
        let (server, zone): (ServerId, Zone) = ("fs-a".parse().unwrap(), "eu".parse().unwrap());
        let file = FileId::new();
        let download = Grant {
            token_hash: Digest::of(b"x"),
            token_id: TokenId::new(),
            file,
            zones: None,
            expires_at: now + SignedDuration::from_secs(1),
            purpose: Purpose::Download,
        };
        let upload = Grant {
            purpose: Purpose::Upload { size: 1, chunk_size: 1 << 20, targets: vec![server.clone()] },
            ..download.clone()
        };
        let zoned = |zones: &[&str]| Grant {
            zones: Some(zones.iter().map(|zone| zone.parse().unwrap()).collect()),
            ..download.clone()
        };
        let elsewhere = Grant {
            purpose: Purpose::Upload { size: 1, chunk_size: 1 << 20, targets: vec!["fs-b".parse().unwrap()] },
            ..download.clone()
        };
        let other = FileId::new();
        let late = now + SignedDuration::from_secs(1);
        for (grant, file, need, time, expected) in [
            (&download, file, Need::Read, now, true),
            (&download, file, Need::List, now, true),
            (&download, file, Need::Write, now, false),
            (&download, other, Need::Read, now, false),
            (&download, file, Need::Read, late, false),
            (&zoned(&["eu", "us"]), file, Need::Read, now, true),
            (&zoned(&["us"]), file, Need::Read, now, false),
            (&zoned(&[]), file, Need::Read, now, false),
            (&upload, file, Need::Write, now, true),
            (&upload, file, Need::List, now, true),
            (&upload, file, Need::Read, now, false),
            (&elsewhere, file, Need::Write, now, false),
        ] {
            assert_eq!(allows(grant, file, need, (&server, &zone), time), expected, "{grant:?} {need:?}");
        }
    }
}
