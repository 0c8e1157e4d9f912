//! Who holds which chunks: asked of the info-server now and then, and of the own zone's servers, which may be receiving the
//! file as well, all the time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use transfer::{
    download::{Directory, Update, Why},
    source::Source,
};
use wire::{
    FileId, Layout, Runs, ServerId,
    catalog::{FileDetails, Location},
    server::HeldChunks,
    token::Token,
};

use crate::{info::held_chunks, server::Server};

/// From one round of questions to the next: chunks are passed on about as soon as they are there.
const POLL: Duration = Duration::from_millis(300);
/// How long the info-server's word is good: who may fetch from other zones changes when a server dies.
const GOOD_FOR: Duration = Duration::from_secs(3);
/// The same on links that are limited: each one's share changes whenever another one begins or ends.
const SHARE_GOOD_FOR: Duration = Duration::from_secs(1);
/// Servers asked at once, and in one round.
const AT_ONCE: usize = 8;
const MOST: usize = 64;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Where one file's chunks are.
pub(super) struct Whereabouts {
    server: Arc<Server>,
    client: reqwest::Client,
    layout: Layout,
    file: FileId,
    known: Mutex<Known>,
}

struct Known {
    locations: BTreeMap<ServerId, Location>,
    asked: Instant,
    token: Option<Token>,
}

impl Whereabouts {
    pub(super) fn new(
        server: Arc<Server>,
        client: reqwest::Client,
        locations: Vec<Location>,
        (layout, file): (Layout, FileId),
        token: Token,
    ) -> Self {
        let known = Known { locations: BTreeMap::new(), asked: Instant::now(), token: Some(token) };
        let this = Self { server, client, layout, file, known: Mutex::new(known) };
        this.learn(locations);
        this
    }

    /// All sources as they are now.
    pub(super) fn sources(&self) -> Vec<Source> {
        let known = self.known();
        let source = |location: &Location| Source { location: location.clone(), tier: location.cost };
        known.locations.values().map(source).collect()
    }

    /// Takes the info-server's word. Whoever it does not name any more is not to be asked.
    fn learn(&self, locations: Vec<Location>) {
        let own = &self.server.identity.id;
        let mut known = self.known();
        known.locations.values_mut().for_each(|location| location.runs = Runs::new());
        for location in locations.into_iter().filter(|location| location.server != *own) {
            known.locations.insert(location.server.clone(), location);
        }
        known.asked = Instant::now();
    }

    async fn ask(&self) -> Result<(), Failed> {
        // Also after a failure it is not asked again at once.
        self.known().asked = Instant::now();
        let details = self.server.info.details(self.file, &self.server.zone, false).await?;
        limit(&self.server, &details);
        self.learn(details.locations);
        Ok(())
    }

    /// Asks the own zone's servers that are not known to hold everything.
    async fn poll(&self) {
        let (token, peers) = {
            let known = self.known();
            let growing = |location: &&Location| location.cost == 0 && !location.runs.covers(0..self.layout.count());
            let peers: Vec<Location> = known.locations.values().filter(growing).take(MOST).cloned().collect();
            (known.token.clone(), peers)
        };
        let Some(token) = token else { return };
        let questions = peers.into_iter().map(|peer| {
            let token = &token;
            async move { (held_chunks(&self.client, &peer.url, token).await, peer.server) }
        });
        let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some((answer, server)) = answers.next().await {
            // One that does not answer is believed to hold what it held: the engine finds out.
            if let (Ok(HeldChunks { runs, .. }), Some(location)) = (answer, self.known().locations.get_mut(&server)) {
                location.runs = runs;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps to what the info-server says about the links to other zones. Where none is limited, heartbeats say so.
pub(super) fn limit(server: &Server, details: &FileDetails) {
    if !details.pull_limits.is_empty() {
        server.pace.limit_zones(&details.pull_limits);
    }
}

#[async_trait]
impl Directory for Whereabouts {
    async fn refresh(&self, why: Why) -> Result<Update, Failed> {
        match why {
            Why::TokenExpiring | Why::TokenRefused => {
                let token = self.server.info.renew(self.file).await?;
                self.known().token = Some(token.token.clone());
                Ok(Update { token: Some(token), ..Update::default() })
            }
            // All digests were there at the start, and where chunks are is asked all the time.
            Why::NoSources | Why::MoreDigests => Ok(Update::default()),
        }
    }

    async fn news(&self) -> Update {
        tokio::time::sleep(POLL).await;
        let is_old = {
            let known = self.known();
            let limited = known.locations.values().any(|at| at.cost > 0 && self.server.pace.turn(&at.zone).is_some());
            known.asked.elapsed() >= if limited { SHARE_GOOD_FOR } else { GOOD_FOR }
        };
        if is_old && let Err(error) = self.ask().await {
            tracing::debug!(file = %self.file, %error, "the info-server does not say where chunks are; going on");
        }
        self.poll().await;
        Update { sources: Some(self.sources()), ..Update::default() }
    }
}
