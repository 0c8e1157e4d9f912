//! The state of the volume: whether it has space above the reserve, and whether it takes writes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lifecycle::{Shutdown, fault_log::FaultLog};
use tokio::sync::{Mutex, watch};

use crate::{BlobDirectory, BlobError, disk::DISK_TIMEOUT, run_blocking};

static SPACE_FAULTS: FaultLog = FaultLog::new("Free space of the volume is unknown");

/// Time between two checks of the volume.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two probe writes while they succeed.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Probe writes that fail in a row before the volume counts as failing: a single failure may pass.
const MAX_FAILED_PROBES: u32 = 2;

/// State of a volume. What is stored on it is served in any state, unless the data folder was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// Volume that accepts files.
    Healthy,
    /// Less space is free than the reserve.
    LowSpace,
    /// Writes fail, or do not end.
    Failing,
    /// The data folder is gone, or another one is in its place: its disk may have been unmounted.
    FolderReplaced,
}

/// Health of the volume that holds the blobs.
#[derive(Debug)]
pub struct VolumeHealth {
    directory: Arc<BlobDirectory>,
    state: watch::Sender<VolumeState>,
    /// Held by the one probe that runs: a stalled disk must not collect waiting threads.
    probing: Arc<Mutex<()>>,
}

impl VolumeHealth {
    pub(crate) fn new(directory: Arc<BlobDirectory>) -> Self {
        Self { directory, state: watch::Sender::new(VolumeState::Healthy), probing: Arc::default() }
    }

    /// Returns the state that the last check found.
    pub fn state(&self) -> VolumeState {
        *self.state.borrow()
    }

    /// Returns a receiver of changes of the state.
    pub fn subscribe(&self) -> watch::Receiver<VolumeState> {
        self.state.subscribe()
    }

    /// Returns the bytes that can still be stored: none on a volume that takes no writes, however much of it is free.
    pub async fn storable_bytes(&self) -> u64 {
        if matches!(self.state(), VolumeState::Failing | VolumeState::FolderReplaced) {
            return 0;
        }
        let directory = self.directory.clone();
        run_blocking(move || directory.free_bytes()).await.unwrap_or(0)
    }

    /// Gives up the space that was set aside for removals: a record of one did not fit. It is set aside again once there is
    /// plenty.
    pub async fn release_ballast(&self) {
        let directory = self.directory.clone();
        match run_blocking(move || directory.release_ballast()).await {
            Ok(true) => tracing::warn!("The volume is full: using the space that was set aside for removals"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "The space that was set aside for removals could not be given up"),
        }
    }

    /// Writes and syncs a few bytes.
    ///
    /// # Errors
    /// With the disk's error, and when it does not respond within `limit`.
    pub async fn probe(&self, limit: Duration) -> Result<(), BlobError> {
        let probe = async {
            let exclusive = self.probing.clone().lock_owned().await;
            let directory = self.directory.clone();
            let probed = run_blocking(move || {
                let probed = directory.probe();
                drop(exclusive);
                probed
            });
            Ok(probed.await?)
        };
        tokio::time::timeout(limit, probe).await.unwrap_or(Err(BlobError::DiskTimeout))
    }

    /// Checks the volume until `shutdown`: files are taken in only while it is healthy.
    ///
    /// # Errors
    /// Never; the signature is that of a background task.
    pub async fn monitor(self: Arc<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut probes = Probes { last: None, failed: 0 };
        loop {
            // A volume that stalls leaves the state as it is; nothing piles up, as the next check waits for this one.
            tokio::select! {
                state = probes.check(&self) => self.set(state),
                () = shutdown.finishing().cancelled() => return Ok(()),
            }
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                () = shutdown.finishing().cancelled() => return Ok(()),
            }
        }
    }

    fn set(&self, state: VolumeState) {
        if !self.state.send_if_modified(|before| std::mem::replace(before, state) != state) {
            return;
        }
        match state {
            VolumeState::Healthy => tracing::info!("The volume is healthy again: files are taken in"),
            VolumeState::LowSpace => {
                tracing::error!(
                    "The volume has less free space than --reserve: no files are taken in until space is freed"
                );
            }
            VolumeState::FolderReplaced => {
                tracing::error!(
                    "The data folder is not the one that this server began with: nothing is taken in, acknowledged or served until its \
                     disk is mounted again; if it was removed on purpose, stop this server"
                );
            }
            VolumeState::Failing => {
                tracing::error!("The volume takes no writes, so no files are taken in: repair or replace it");
            }
        }
    }
}

/// Probe writes: a volume that became read-only is noticed only by writing to it.
struct Probes {
    last: Option<Instant>,
    /// Failures in a row.
    failed: u32,
}

impl Probes {
    async fn check(&mut self, volume: &VolumeHealth) -> VolumeState {
        let directory = volume.directory.clone();
        if let Ok(Err(replaced)) = run_blocking(move || Ok(directory.check())).await {
            if volume.state() != VolumeState::FolderReplaced {
                tracing::error!("{replaced}");
            }
            return VolumeState::FolderReplaced;
        }
        if self.failed > 0 || self.last.is_none_or(|last| last.elapsed() >= PROBE_INTERVAL) {
            self.last = Some(Instant::now());
            match volume.probe(DISK_TIMEOUT).await {
                // A full volume shows in its free space, and descriptors come back.
                Err(error) if !error.is_full() && !error.is_out_of_descriptors() => {
                    self.failed = self.failed.saturating_add(1);
                    if self.failed == MAX_FAILED_PROBES {
                        tracing::error!(%error, "Probe writes to the volume fail");
                    }
                }
                _ => self.failed = 0,
            }
        }
        if self.failed >= MAX_FAILED_PROBES {
            return VolumeState::Failing;
        }
        let directory = volume.directory.clone();
        match run_blocking(move || directory.is_below_reserve()).await {
            Ok(true) => VolumeState::LowSpace,
            Ok(false) => {
                let directory = volume.directory.clone();
                if let Err(error) = run_blocking(move || directory.set_ballast_aside()).await {
                    tracing::debug!(%error, "No space could be set aside for removals");
                }
                VolumeState::Healthy
            }
            Err(error) => {
                SPACE_FAULTS.failed(error);
                volume.state()
            }
        }
    }
}
