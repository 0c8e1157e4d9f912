//! Handles that requests and background tasks share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bus::EventBus;
use chunk_store::BlobStore;
use info_client::FileServerClient;
use tokio::sync::{Notify, watch};
use transfer::rate_limiter::RateLimiter;
use wire::Zone;

use crate::{
    content::active_responses::ActiveResponses,
    db::{Database, damage::DamageNotes},
    metrics::Metrics,
    tokens::token_cache::TokenCache,
    upstream::{clock::Clock, identity::Identity},
    url_fetch::hints::JobHints,
};

/// Handles of one file server. There may be several in a process.
#[derive(Debug)]
pub(crate) struct AppState {
    pub(crate) identity: Identity,
    pub(crate) zone: Zone,
    pub(crate) db: Database,
    pub(crate) damage_notes: DamageNotes,
    pub(crate) blobs: Arc<BlobStore>,
    pub(crate) tokens: TokenCache,
    pub(crate) responses: Arc<ActiveResponses>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) info: FileServerClient,
    pub(crate) bus: Arc<dyn EventBus>,
    /// Rate limits of what is fetched from other file servers.
    pub(crate) rate_limiter: RateLimiter,
    /// True while the last heartbeat was accepted.
    pub(crate) registered: watch::Sender<bool>,
    /// True while another live process has this server's identity: this one then serves and receives nothing.
    pub(crate) identity_conflict: watch::Sender<bool>,
    /// Jobs that may have work for this server.
    pub(crate) job_hints: JobHints,
    /// Notified when files have an open catalogue status.
    pub(crate) open_questions: Notify,
    /// Set when requests should go elsewhere from now on.
    pub(crate) draining: AtomicBool,
}

impl AppState {
    /// Waits until a heartbeat was accepted.
    pub(crate) async fn until_registered(&self) {
        // The sender is in `self`: the wait cannot end because it is gone.
        let _ = self.registered.subscribe().wait_for(|registered| *registered).await;
    }

    /// Makes this server report that it is not ready, from now on.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
