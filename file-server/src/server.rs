//! What handlers and background tasks share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bus::EventBus;
use tokio::sync::{Notify, watch};
use transfer::pace::Pace;
use wire::Zone;

use crate::{
    blobs::Blobs, clock::Clock, fetch::Hints, identity::Identity, info::InfoServer, metrics::Metrics, running::Running,
    store::Store, tokens::Tokens,
};

/// One file server. There may be several in a process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) identity: Identity,
    pub(crate) zone: Zone,
    pub(crate) store: Store,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) tokens: Tokens,
    pub(crate) running: Arc<Running>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) info: InfoServer,
    pub(crate) bus: Arc<dyn EventBus>,
    /// How fast replications may fetch.
    pub(crate) pace: Pace,
    /// Whether the last heartbeat was accepted.
    pub(crate) registered: watch::Sender<bool>,
    /// Whether another live process has this server's identity: this one then serves and takes nothing.
    pub(crate) usurped: watch::Sender<bool>,
    /// Jobs that may have something to do.
    pub(crate) hints: Hints,
    /// There are files to ask the info-server about.
    pub(crate) asking: Notify,
    /// Whether requests should go elsewhere from now on.
    pub(crate) draining: AtomicBool,
}

impl Server {
    /// Waits until a heartbeat was accepted.
    pub(crate) async fn registration(&self) {
        // The sender is ours: the wait cannot end for want of one.
        let _ = self.registered.subscribe().wait_for(|registered| *registered).await;
    }

    /// From now on this server says that it is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
