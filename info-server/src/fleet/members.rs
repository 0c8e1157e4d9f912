//! The handle of the fleet: the registry, and what changes to it need.

use std::{
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use tokio::sync::{Mutex, MutexGuard};
use wire::server::ServerInfo;

use crate::fleet::{address_check::AddressCheck, registry::Registry};

/// The fleet of one info-server.
#[derive(Debug)]
pub struct Fleet {
    registry: RwLock<Registry>,
    pub(crate) address_check: AddressCheck,
    /// Held while a registration is stored.
    registering: Mutex<()>,
}

impl Fleet {
    /// Makes the handle of a registry.
    ///
    /// # Errors
    /// When the system's TLS settings cannot be used for address checks.
    pub fn new(registry: Registry) -> anyhow::Result<Self> {
        Ok(Self { registry: RwLock::new(registry), address_check: AddressCheck::new()?, registering: Mutex::default() })
    }

    /// Locks the registry for reading.
    pub fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        // A panic while it was held cannot leave it half changed: every change is one insertion.
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the registry for a change, which is stored already.
    pub fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other registration is being stored.
    pub(crate) async fn lock_registration(&self) -> MutexGuard<'_, ()> {
        self.registering.lock().await
    }

    /// Returns the servers that clients may be sent to.
    pub fn live(&self) -> Vec<ServerInfo> {
        self.registry().live(Instant::now()).collect()
    }
}
