//! Staying with one job: a lease after the other, the next one claimed before the last one ends.

use std::{sync::Arc, time::Duration};

use origin::Origins;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use wire::{
    FileId, JobId, Runs,
    job::{Claim, Lease},
};

use super::{
    Ending,
    lease::{self, is_over},
    work::Work,
};
use crate::{blobs::BlobError, info::InfoError, server::Server, volume::Volume};

/// Leases held at once: the line to the origin does not idle while the next one is claimed.
const LEASES: usize = 2;
/// Between two claims when there was nothing to do, whatever the info-server says.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// After a span was given up.
const REST: Duration = Duration::from_millis(500);
/// After a claim that was not answered: the first pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How long claims are tried in vain.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long to wait for something to do while other jobs wait for this place.
const IDLE: Duration = Duration::from_secs(2);
/// How long to work while other jobs wait for this place: so none of them stands still for as long as another one takes.
const TURN: Duration = Duration::from_secs(15);

/// The course of one job here.
struct Course {
    server: Arc<Server>,
    origins: Origins,
    job: JobId,
    leases: JoinSet<Ending>,
    /// The work of the lease that was claimed last.
    last: Option<Arc<Work>>,
    file: Option<FileId>,
    next_claim: Instant,
    began: Instant,
    /// When there was something to do, and when the info-server answered.
    busy: Instant,
    heard: Instant,
    pause: Duration,
}

/// Whether a job that is left wants more work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It only made room for others.
    More,
    /// As far as is known here.
    Nothing,
}

/// Works on a job until there is nothing more to do, until it is the turn of others, or until `stop`.
pub(super) async fn work(server: Arc<Server>, origins: Origins, job: JobId, stop: CancellationToken) -> Left {
    let now = Instant::now();
    let mut course = Course {
        server: server.clone(),
        origins,
        job,
        leases: JoinSet::new(),
        last: None,
        file: None,
        next_claim: now,
        began: now,
        busy: now,
        heard: now,
        pause: PAUSES.0,
    };
    let left = tokio::select! {
        left = course.run() => left,
        () = stop.cancelled() => Left::Nothing,
    };
    course.leases.shutdown().await;
    if let Some(file) = course.file.filter(|_| left == Left::Nothing) {
        tracing::info!(%job, %file, "no more spans of a job to fetch");
        // The file goes when a fact says so; a fact that was missed is asked for.
        if let Err(error) = server.store.ask_about(file).await {
            tracing::error!(%file, %error, "a file cannot be put in question");
        }
        server.asking.notify_one();
    }
    left
}

impl Course {
    async fn run(&mut self) -> Left {
        loop {
            if self.leases.is_empty() && self.has_had_its_turn() {
                return Left::More;
            }
            if self.may_claim() && self.next_claim <= Instant::now() && !self.claim().await {
                return Left::Nothing;
            }
            let (claims, last) = (self.may_claim(), self.last.clone());
            let nearly = async {
                match last {
                    Some(work) if !claims => work.nearly.notified().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.leases.join_next() => match ended {
                    Ok(Ending::Gone) => return Left::Nothing,
                    Ok(Ending::Failed) | Err(_) => self.next_claim = Instant::now() + REST,
                    Ok(Ending::Over | Ending::Stale) => {}
                },
                () = nearly => {}
                () = sleep_until(self.next_claim), if claims => {}
            }
        }
    }

    fn may_claim(&self) -> bool {
        if self.has_had_its_turn() {
            return false;
        }
        let nearly = self.last.as_ref().is_none_or(|work| work.is_nearly_over());
        self.leases.is_empty() || (self.leases.len() < LEASES && nearly)
    }

    /// Claims a span. False when there is nothing more to do here.
    async fn claim(&mut self) -> bool {
        let now = Instant::now();
        if *self.server.blobs.volume.borrow() != Volume::Well || *self.server.usurped.borrow() {
            // Hints come again; by then the volume may be well.
            self.next_claim = now + AGAIN.1;
            return !self.leases.is_empty();
        }
        let held = match self.held().await {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(job = %self.job, %error, "what is held for a job is not known");
                None
            }
        };
        match self.server.info.claim(self.job, &Claim { held }).await {
            Ok(claimed) => {
                (self.heard, self.pause) = (now, PAUSES.0);
                match claimed.lease {
                    Some(lease) => self.begin(lease).await,
                    None => {
                        let again = Duration::from_millis(claimed.again_ms.into()).clamp(AGAIN.0, AGAIN.1);
                        self.next_claim = Instant::now() + again;
                        return !(self.leases.is_empty() && self.yields());
                    }
                }
                true
            }
            Err(InfoError::Refused { status, .. }) if is_over(status) => false,
            Err(error) => {
                tracing::debug!(job = %self.job, %error, "a span could not be claimed; trying again");
                self.next_claim = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSES.1);
                !self.leases.is_empty() || self.heard.elapsed() < PATIENCE
            }
        }
    }

    /// What is held of the job's file; nothing is said while a lease is worked on, as chunks may be told of at the same time.
    async fn held(&self) -> Result<Option<Runs>, BlobError> {
        if !self.leases.is_empty() {
            return Ok(None);
        }
        let Some(file) = self.server.store.fetched_for(self.job).await? else { return Ok(Some(Runs::new())) };
        let blob = self.server.blobs.find(file).await?;
        Ok(Some(blob.map_or_else(Runs::new, |blob| blob.progress().0)))
    }

    fn has_had_its_turn(&self) -> bool {
        self.began.elapsed() > TURN && self.server.hints.has_other_than(self.job)
    }

    /// Whether another job should have this place.
    fn yields(&self) -> bool {
        self.busy.elapsed() > IDLE && self.server.hints.has_other_than(self.job)
    }

    async fn begin(&mut self, lease: Lease) {
        if self.file != Some(lease.file) {
            tracing::info!(job = %self.job, file = %lease.file, url = %lease.url, size = lease.size, "fetching spans of a URL");
            self.file = Some(lease.file);
        }
        let (begun, work) = oneshot::channel();
        let (server, origins, job) = (self.server.clone(), self.origins.clone(), self.job);
        self.leases.spawn(Box::pin(lease::work(server, origins, job, lease, begun)));
        // None when it could not be begun; then it ends at once.
        self.last = work.await.ok();
        self.busy = Instant::now();
        self.next_claim = self.busy;
    }
}
