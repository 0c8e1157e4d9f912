//! What the download engine asks while it takes a job's chunks.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};
use transfer::{
    download::{Directory, Ended, Update, Why},
    info::InfoError,
};
use wire::FileId;

use super::follow::Shared;
use crate::commands::get::sources;

/// News are put together for this long: a busy job has some all the time.
const COALESCE: Duration = Duration::from_millis(100);
/// How often the places of servers are asked for at most.
const PLACES_APART: Duration = Duration::from_secs(1);

/// A job's directory: the stream tells, the info-server is asked for places and tokens.
pub(super) struct JobDirectory {
    shared: Arc<Shared>,
    file: FileId,
    changes: Mutex<watch::Receiver<u64>>,
    asked: Mutex<Option<Instant>>,
}

impl JobDirectory {
    pub(super) fn new(shared: Arc<Shared>, file: FileId) -> Self {
        let changes = Mutex::new(shared.changes());
        Self { shared, file, changes, asked: Mutex::new(None) }
    }

    /// All that is known at the moment.
    fn all(&self) -> Update {
        let known = self.shared.known();
        // What the stream says of another file is for whoever begins anew.
        let manifest = known.manifest().filter(|manifest| manifest.file == self.file);
        let hope = self.shared.hears() && known.expects_more();
        Update { manifest, sources: Some(sources(known.sources(), self.shared.zone.as_ref())), hope, token: None }
    }

    /// Asks where the servers are, unless that was asked a moment ago.
    async fn learn_places(&self) -> Result<(), InfoError> {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < PLACES_APART) {
            return Ok(());
        }
        *asked = Some(Instant::now());
        let details = self.shared.info.file(self.file, self.shared.zone.as_ref(), false).await?;
        self.shared.known().hear_places(details.locations);
        Ok(())
    }

    async fn ask(&self, why: Why) -> Result<Update, InfoError> {
        match why {
            Why::TokenExpiring | Why::TokenRefused => {
                return Ok(Update { token: Some(self.shared.info.renew(self.file).await?), ..Update::default() });
            }
            Why::NoSources => self.learn_places().await?,
            // The stream tells by itself, unless it is broken.
            Why::MoreDigests if self.shared.hears() => {}
            Why::MoreDigests => {
                let manifest = self.shared.info.manifest(self.file).await?;
                self.shared.learn(|known| known.hear_manifest(&manifest));
            }
        }
        Ok(self.all())
    }
}

#[async_trait]
impl Directory for JobDirectory {
    async fn refresh(&self, why: Why) -> Result<Update, Box<dyn std::error::Error + Send + Sync>> {
        self.ask(why).await.map_err(|error| match error.status() {
            Some(404 | 410) => Ended::Gone(error.to_string()).into(),
            Some(401 | 403) => Ended::Refused(error.to_string()).into(),
            _ => error.into(),
        })
    }

    async fn news(&self) -> Update {
        let mut changes = self.changes.lock().await;
        // A job that has no news still is one that is worked at.
        let _ = time::timeout(PLACES_APART, changes.changed()).await;
        time::sleep(COALESCE).await;
        changes.mark_unchanged();
        if self.shared.known().lacks_places()
            && let Err(error) = self.learn_places().await
        {
            tracing::debug!(%error, "the places of a job's workers are not known");
        }
        self.all()
    }
}
