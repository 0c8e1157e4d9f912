//! The handles that routes and tasks share, and no more than that: the code that works with them imports this module.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard, atomic::AtomicBool};

use bus::EventBus;
use lifecycle::Shutdown;
use secrecy::SecretString;
use tokio::sync::Notify;
use wire::server::ServerInfo;

use crate::{
    accounts::{login_failures::LoginFailureBuffer, login_limiter::LoginLimiter, passwords::Passwords},
    config::Config,
    db::{Database, idempotency::KeysInUse},
    events::log::EventLog,
    fleet::{members::Fleet, registry::Registry},
    jobs::handle::JobsHandle,
    metrics::registry::Metrics,
    replication::{link_bandwidth::LinkBandwidth, planner_inbox::PlannerInbox, zone_costs::ZoneCosts},
    tokens::group_commit::GroupCommit,
};

/// The handles of one server.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) db: Database,
    pub(crate) log: EventLog,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: Metrics,
    pub(crate) passwords: Passwords,
    pub(crate) login_limiter: LoginLimiter,
    pub(crate) login_failures: LoginFailureBuffer,
    pub(crate) join_secret: SecretString,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) tokens: GroupCommit,
    /// Notified of every stored replica report, for commits that wait for a quorum.
    pub(crate) reported: Notify,
    pub(crate) planner: Arc<PlannerInbox>,
    pub(crate) zone_costs: ZoneCosts,
    pub(crate) link_bandwidth: Mutex<LinkBandwidth>,
    pub(crate) jobs: Arc<JobsHandle>,
    pub(crate) keys_in_use: KeysInUse,
    /// Set once this process began an epoch because a file server had seen more events than there were.
    pub(crate) has_begun_epoch: AtomicBool,
}

impl State {
    /// Locks the registry of file servers for reading.
    pub(crate) fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.fleet.registry()
    }

    /// Locks the allocations of limited links.
    pub(crate) fn link_bandwidth(&self) -> MutexGuard<'_, LinkBandwidth> {
        self.link_bandwidth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the servers that clients may be sent to.
    pub(crate) fn live(&self) -> Vec<ServerInfo> {
        self.fleet.live()
    }
}
