//! Directory of the download engine for the file of a job.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use info_client::InfoError;
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};
use transfer::download::{Directory, PermanentError, RefreshReason, Update};
use wire::FileId;

use super::job_follower::JobMonitor;
use crate::sources;

/// Time in which updates are collected: a busy job sends them all the time.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Shortest time between two requests for the locations of servers.
const MIN_LOCATION_INTERVAL: Duration = Duration::from_secs(1);

/// Directory of a job's file. The job's stream brings digests and holders; locations and tokens are requested.
pub(super) struct JobDirectory {
    monitor: Arc<JobMonitor>,
    file: FileId,
    changes: Mutex<watch::Receiver<u64>>,
    last_location_request: Mutex<Option<Instant>>,
}

impl JobDirectory {
    pub(super) fn new(monitor: Arc<JobMonitor>, file: FileId) -> Self {
        let changes = Mutex::new(monitor.changes());
        Self { monitor, file, changes, last_location_request: Mutex::new(None) }
    }

    /// Returns the current state as one update.
    fn current(&self) -> Update {
        let view = self.monitor.view();
        // A manifest of another file belongs to the next run of the engine.
        let manifest = view.manifest().filter(|manifest| manifest.file == self.file);
        let more_expected = self.monitor.is_connected() && view.expects_more();
        let sources = Some(sources::ranked(view.locations(), self.monitor.zone.as_ref()));
        Update { manifest, sources, more_expected, token: None, lost: None }
    }

    /// Requests the locations of servers, unless that happened a moment ago.
    async fn update_locations(&self) -> Result<(), InfoError> {
        let mut last = self.last_location_request.lock().await;
        if last.is_some_and(|at| at.elapsed() < MIN_LOCATION_INTERVAL) {
            return Ok(());
        }
        *last = Some(Instant::now());
        let details = self.monitor.info.file(self.file, self.monitor.zone.as_ref(), false).await?;
        self.monitor.view().apply_locations(details.locations);
        Ok(())
    }

    async fn update(&self, reason: RefreshReason) -> Result<Update, InfoError> {
        match reason {
            RefreshReason::TokenExpiring | RefreshReason::TokenRefused => {
                let token = Some(self.monitor.info.renew_token(self.file).await?);
                return Ok(Update { token, ..Update::default() });
            }
            RefreshReason::NoSources => self.update_locations().await?,
            // The stream brings digests, unless it is broken.
            RefreshReason::MoreDigests if self.monitor.is_connected() => {}
            RefreshReason::MoreDigests => {
                let manifest = self.monitor.info.manifest(self.file).await?;
                self.monitor.update(|view| view.apply_manifest(&manifest));
            }
        }
        Ok(self.current())
    }
}

#[async_trait]
impl Directory for JobDirectory {
    async fn refresh(&self, reason: RefreshReason) -> Result<Update, Box<dyn std::error::Error + Send + Sync>> {
        self.update(reason).await.map_err(|error| match error.status() {
            Some(404 | 410) => PermanentError::Gone(error.to_string()).into(),
            Some(401 | 403) => PermanentError::Refused(error.to_string()).into(),
            _ => error.into(),
        })
    }

    async fn updates(&self) -> Update {
        let mut changes = self.changes.lock().await;
        // Without changes, workers still fetch: the current state is repeated.
        let _ = time::timeout(MIN_LOCATION_INTERVAL, changes.changed()).await;
        time::sleep(UPDATE_INTERVAL).await;
        changes.mark_unchanged();
        if self.monitor.view().lacks_locations()
            && let Err(error) = self.update_locations().await
        {
            tracing::debug!(%error, "cannot request the locations of a job's workers");
        }
        self.current()
    }
}
