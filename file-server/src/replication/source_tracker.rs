//! The chunks of one file that each source holds. The info-server is asked at intervals; the servers of the own zone, which
//! may be receiving the file as well, all the time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use transfer::{
    download::{Directory, RefreshReason, Update},
    source::Source,
};
use wire::{
    ChunkLayout, ChunkSet, FileId, ServerId,
    catalogue::{FileDetails, Location},
    token::Token,
};

use super::held_chunks::held_chunks;
use crate::state::AppState;

/// Time between two rounds of requests to servers: chunks are passed on almost as soon as they arrive there.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Age up to which the info-server's list of sources is used: the servers that fetch from other zones change when one dies.
const MAX_LIST_AGE: Duration = Duration::from_secs(3);
/// The same for the server that fetches from other zones: its share of a link's rate limit changes whenever another one begins or
/// ends, and once a link is back, another server may be the one that fetches across it. And of a list that could not be renewed.
const SHORT_MAX_LIST_AGE: Duration = Duration::from_secs(1);
/// Time without an accepted heartbeat after which this server fetches nothing across links: the info-server may have given that role to
/// another one, which would fetch the same chunks once the link is back.
const MAX_TIME_UNREGISTERED: Duration = Duration::from_secs(3);
/// Servers asked at once, and in one round.
const MAX_CONCURRENT_REQUESTS: usize = 8;
const MAX_POLLED_SERVERS: usize = 64;

type RefreshError = Box<dyn std::error::Error + Send + Sync>;

/// A file whose sources are tracked.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrackedFile {
    pub(super) file: FileId,
    pub(super) layout: ChunkLayout,
}

/// The sources of one file's chunks.
pub(super) struct SourceTracker {
    state: Arc<AppState>,
    client: reqwest::Client,
    tracked: TrackedFile,
    known: Mutex<Known>,
}

struct Known {
    locations: BTreeMap<ServerId, Location>,
    /// Time of the last request to the info-server, and whether it failed.
    refreshed_at: Instant,
    has_failed: bool,
    unregistered_since: Option<Instant>,
    token: Option<Token>,
}

impl SourceTracker {
    pub(super) fn new(
        state: Arc<AppState>,
        client: reqwest::Client,
        tracked: TrackedFile,
        locations: Vec<Location>,
        token: Token,
    ) -> Self {
        let known = Known {
            locations: BTreeMap::new(),
            refreshed_at: Instant::now(),
            has_failed: false,
            unregistered_since: None,
            token: Some(token),
        };
        let this = Self { state, client, tracked, known: Mutex::new(known) };
        this.set_locations(locations);
        this
    }

    /// Returns all sources in their present state.
    pub(super) fn sources(&self) -> Vec<Source> {
        let known = self.known();
        let source = |location: &Location| Source { location: location.clone(), tier: location.cost };
        known.locations.values().map(source).collect()
    }

    /// Stores the info-server's list. Servers that it does not name any more count as holding nothing.
    fn set_locations(&self, locations: Vec<Location>) {
        let own = &self.state.identity.id;
        let mut known = self.known();
        known.locations.values_mut().for_each(|location| location.runs = ChunkSet::new());
        for location in locations.into_iter().filter(|location| location.server != *own) {
            known.locations.insert(location.server.clone(), location);
        }
        known.refreshed_at = Instant::now();
        known.has_failed = false;
    }

    /// Asks the info-server for the sources.
    async fn refresh_locations(&self) -> Result<(), RefreshError> {
        // First, so that the request is not repeated at once after a failure either.
        {
            let mut known = self.known();
            (known.refreshed_at, known.has_failed) = (Instant::now(), true);
        }
        let details = self.state.info.file(self.tracked.file, &self.state.zone, false).await?;
        apply_rate_limits(&self.state, &details);
        self.set_locations(details.locations);
        Ok(())
    }

    /// Gives up the sources in other zones when no heartbeat has got through for [`MAX_TIME_UNREGISTERED`]. The next list has them again.
    fn forget_other_zones_once_unregistered(&self) {
        let mut known = self.known();
        if *self.state.registered.borrow() {
            known.unregistered_since = None;
        } else if known.unregistered_since.get_or_insert_with(Instant::now).elapsed() >= MAX_TIME_UNREGISTERED {
            let others = known.locations.values_mut().filter(|location| location.cost > 0);
            others.for_each(|location| location.runs = ChunkSet::new());
        }
    }

    /// Asks the servers of the own zone that did not report all chunks.
    async fn poll(&self) {
        let (token, peers) = {
            let known = self.known();
            let growing =
                |location: &&Location| location.cost == 0 && !location.runs.covers(0..self.tracked.layout.count());
            let peers: Vec<Location> =
                known.locations.values().filter(growing).take(MAX_POLLED_SERVERS).cloned().collect();
            (known.token.clone(), peers)
        };
        let Some(token) = token else { return };
        let questions = peers.into_iter().map(|peer| {
            let token = &token;
            async move { (held_chunks(&self.client, &peer.url, token).await, peer.server) }
        });
        let mut answers = stream::iter(questions).buffer_unordered(MAX_CONCURRENT_REQUESTS);
        while let Some((answer, server)) = answers.next().await {
            // A server that does not answer keeps its last report: the engine notices when it fails.
            if let (Some(runs), Some(location)) = (answer, self.known().locations.get_mut(&server)) {
                location.runs = runs;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies the info-server's rate limits of links to other zones. Heartbeats lift them.
pub(super) fn apply_rate_limits(state: &AppState, details: &FileDetails) {
    if !details.pull_limits.is_empty() {
        state.rate_limiter.limit_zones(&details.pull_limits);
    }
}

#[async_trait]
impl Directory for SourceTracker {
    async fn refresh(&self, why: RefreshReason) -> Result<Update, RefreshError> {
        match why {
            RefreshReason::TokenExpiring | RefreshReason::TokenRefused => {
                let token = self.state.info.renew_token(self.tracked.file).await?;
                self.known().token = Some(token.token.clone());
                Ok(Update { token: Some(token), ..Update::default() })
            }
            // All digests were there at the start, and the sources are asked all the time.
            RefreshReason::NoSources | RefreshReason::MoreDigests => Ok(Update::default()),
        }
    }

    async fn updates(&self) -> Update {
        tokio::time::sleep(POLL_INTERVAL).await;
        // While no heartbeat gets through, neither would this: once one does, it is asked at the next round.
        let is_old = *self.state.registered.borrow() && {
            let known = self.known();
            let crosses = known.locations.values().any(|at| at.cost > 0 && !at.runs.is_empty());
            known.refreshed_at.elapsed() >= if crosses || known.has_failed { SHORT_MAX_LIST_AGE } else { MAX_LIST_AGE }
        };
        if is_old && let Err(error) = self.refresh_locations().await {
            tracing::debug!(file = %self.tracked.file, %error, "The info-server does not list sources; going on with those of before");
        }
        self.forget_other_zones_once_unregistered();
        self.poll().await;
        Update { sources: Some(self.sources()), ..Update::default() }
    }
}
