//! Work under one lease: lines fetch, and the info-server hears of it often enough to know that somebody works.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use origin::{Origins, Wanted};
use reqwest::StatusCode;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use wire::{
    Digest, JobId, Layout, Runs,
    job::{ChunkDigest, Lease, LeaseReport, MAX_CONNECTIONS, MAX_REPORTED, Purpose, Reason, Renewed, SpanFailure},
};

use super::{
    Ending,
    line::{Broken, Fetched, Line},
    work::Work,
};
use crate::{
    blobs::{Blob, BlobError, Room},
    info::InfoError,
    server::Server,
    volume::Volume,
};

/// Between two reports that tell something.
const NEWS: Duration = Duration::from_millis(300);
/// Between two reports at most: they are what keeps the lease.
const PULSE: Duration = Duration::from_secs(1);
/// After a report that did not arrive: the first pause and the longest. An info-server that was started again gives a span to
/// others when it does not hear of it soon after the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How long reports are tried in vain.
const PATIENCE: Duration = Duration::from_secs(600);
/// Chunks that wait for their sync.
const SYNCING: usize = 32;
/// How often everything is told again to an info-server that still misses something.
const RETELLS: u32 = 3;

/// Tells of the work once it is begun.
pub(super) type Begun = oneshot::Sender<Arc<Work>>;

/// A chunk, and whether it counts.
type Counted = (u32, Digest, Result<(), BlobError>);

/// Everything of one lease.
struct Tenure {
    server: Arc<Server>,
    job: JobId,
    lease: Lease,
    work: Arc<Work>,
    bytes: Arc<AtomicU64>,
    lines: JoinSet<Result<(), Broken>>,
    fetched: mpsc::Receiver<Fetched>,
    /// Chunks that wait for their sync.
    counting: FuturesUnordered<BoxFuture<'static, Counted>>,
    /// The report on its way; one at most.
    telling: FuturesUnordered<BoxFuture<'static, (LeaseReport, Result<Renewed, InfoError>)>>,
    /// What counts here, and what of it has not been told.
    done: BTreeMap<u32, Digest>,
    news: BTreeMap<u32, Digest>,
    failed: Option<SpanFailure>,
    retells: u32,
    /// When the last report was accepted, and before when none is sent because one was not.
    heard: Instant,
    not_before: Instant,
    pause: Duration,
}

/// Works off a lease.
pub(super) async fn work(server: Arc<Server>, origins: Origins, job: JobId, lease: Lease, begun: Begun) -> Ending {
    let (fence, span) = (lease.fence, lease.span);
    tracing::debug!(%job, fence, start = span.start(), end = span.end(), purpose = ?lease.purpose, "a span to fetch");
    let ending = match prepare(&server, job, &lease).await {
        Ok(prepared) => Tenure::begin(server.clone(), origins, (job, lease), prepared, begun).run().await,
        Err(BlobError::Deleted) => Ending::Gone,
        Err(error) => give_back(&server, job, &lease, &error).await,
    };
    if ending == Ending::Stale {
        server.metrics.stale_leases.inc();
    }
    tracing::debug!(%job, fence, ?ending, "done with a span");
    ending
}

/// Where a lease's chunks go, and those that are there already.
struct Prepared {
    blob: Option<Arc<Blob>>,
    layout: Layout,
    held: BTreeMap<u32, Digest>,
}

async fn prepare(server: &Server, job: JobId, lease: &Lease) -> Result<Prepared, BlobError> {
    let layout = Layout::checked(lease.size, lease.chunk_size).map_err(|_| BlobError::Layout)?;
    if lease.span.end() > layout.count() {
        return Err(BlobError::Layout);
    }
    if lease.purpose == Purpose::Check {
        return Ok(Prepared { blob: None, layout, held: BTreeMap::new() });
    }
    if *server.blobs.volume.borrow() == Volume::Low {
        return Err(BlobError::Disk(std::io::ErrorKind::StorageFull.into()));
    }
    let blob = server.blobs.find_or_make_with(lease.file, layout, Room::AsItComes).await?;
    server.store.note_fetched(lease.file, job).await?;
    let held = if blob.progress().0.gaps(lease.span.range()).len() < lease.span.end() - lease.span.start() {
        server.store.chunk_digests(lease.file).await?
    } else {
        Vec::new()
    };
    let held = held.into_iter().filter(|(n, _)| lease.span.range().contains(n)).collect();
    Ok(Prepared { blob: Some(blob), layout, held })
}

/// A lease that cannot even be begun is given back.
async fn give_back(server: &Server, job: JobId, lease: &Lease, error: &BlobError) -> Ending {
    tracing::warn!(%job, file = %lease.file, %error, "a span cannot be kept here");
    let failed = Some(SpanFailure { reason: Reason::WorkersFailed, retry_after_s: None });
    let report = LeaseReport { failed, ..LeaseReport::default() };
    // Without this word the lease ends by itself.
    let _ = server.info.renew_lease(job, lease.fence, &report).await;
    Ending::Failed
}

impl Tenure {
    fn begin(
        server: Arc<Server>,
        origins: Origins,
        (job, lease): (JobId, Lease),
        Prepared { blob, layout, held }: Prepared,
        begun: Begun,
    ) -> Self {
        let have: Runs = held.keys().map(|n| *n..n.saturating_add(1)).collect();
        let connections = lease.connections.clamp(1, MAX_CONNECTIONS);
        let work = Arc::new(Work::new(have.gaps(lease.span.range()), lease.span.end(), connections));
        // Whoever waits for it may have stopped.
        let _ = begun.send(work.clone());
        let (sender, fetched) = mpsc::channel(SYNCING);
        let bytes = Arc::new(AtomicU64::new(0));
        let line = Arc::new(Line {
            server: server.clone(),
            origins,
            url: lease.url.clone(),
            wanted: Wanted { size: lease.size, validator: lease.validator.clone() },
            layout,
            blob,
            work: work.clone(),
            bytes: bytes.clone(),
            fetched: sender,
        });
        let mut lines = JoinSet::new();
        for _ in 0..connections {
            lines.spawn(Box::pin(line.clone().run()));
        }
        let now = Instant::now();
        Self {
            server,
            job,
            lease,
            work,
            bytes,
            lines,
            fetched,
            counting: FuturesUnordered::new(),
            telling: FuturesUnordered::new(),
            done: held.clone(),
            news: held,
            failed: None,
            retells: 0,
            heard: now,
            not_before: now,
            pause: PAUSES.0,
        }
    }

    async fn run(mut self) -> Ending {
        loop {
            let due = self.due();
            if self.telling.is_empty() && due <= Instant::now() {
                self.tell();
            }
            let ending = tokio::select! {
                Some(fetched) = self.fetched.recv(), if self.counting.len() < SYNCING => {
                    self.take(fetched);
                    None
                }
                Some((n, digest, counted)) = self.counting.next() => self.counted(n, digest, counted),
                Some(ended) = self.lines.join_next() => self.ended(ended),
                Some((report, answer)) = self.telling.next() => self.answered(&report, answer),
                () = sleep_until(due), if self.telling.is_empty() => None,
            };
            if let Some(ending) = ending {
                // The lines stop with what they belong to.
                return ending;
            }
        }
    }

    /// Whether nothing more will come.
    fn is_settled(&self) -> bool {
        self.lines.is_empty() && self.fetched.is_empty() && self.counting.is_empty()
    }

    /// When the next report is to be sent.
    fn due(&self) -> Instant {
        let wait = match (self.is_settled(), self.news.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, false) => NEWS,
            (false, true) => PULSE,
        };
        self.not_before.max(self.heard + wait)
    }

    fn tell(&mut self) {
        let chunks = self.news.iter().take(MAX_REPORTED).map(|(n, sha256)| ChunkDigest { n: *n, sha256: *sha256 });
        let report = LeaseReport {
            chunks: chunks.collect(),
            bytes: self.bytes.load(Ordering::Relaxed),
            failed: self.failed.clone().filter(|_| self.is_settled() && self.news.len() <= MAX_REPORTED),
        };
        let (server, job, fence) = (self.server.clone(), self.job, self.lease.fence);
        let telling = async move {
            let answer = server.info.renew_lease(job, fence, &report).await;
            (report, answer)
        };
        self.telling.push(telling.boxed());
    }

    fn take(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Known(n, digest) => self.note(n, digest),
            Fetched::Written(n, arrived) => {
                let (server, digest) = (self.server.clone(), arrived.digest);
                self.counting.push(async move { (n, digest, server.blobs.count_once_synced(arrived).await) }.boxed());
            }
        }
    }

    fn note(&mut self, n: u32, digest: Digest) {
        self.server.metrics.origin_chunks.inc();
        self.done.insert(n, digest);
        self.news.insert(n, digest);
    }

    fn counted(&mut self, n: u32, digest: Digest, counted: Result<(), BlobError>) -> Option<Ending> {
        match counted {
            Ok(()) => self.note(n, digest),
            Err(error) => return self.fail(&Broken::Disk(error)),
        }
        None
    }

    fn ended(&mut self, ended: Result<Result<(), Broken>, JoinError>) -> Option<Ending> {
        match ended {
            Ok(Ok(())) => None,
            Ok(Err(broken)) => self.fail(&broken),
            Err(error) if error.is_cancelled() => None,
            Err(error) => self.fail(&Broken::Disk(BlobError::Disk(std::io::Error::other(error)))),
        }
    }

    /// What is counted by now is still told; the rest is given back.
    fn fail(&mut self, broken: &Broken) -> Option<Ending> {
        let failure = match broken {
            Broken::Disk(BlobError::Deleted) => return Some(Ending::Gone),
            Broken::Disk(_) => SpanFailure { reason: Reason::WorkersFailed, retry_after_s: None },
            Broken::Origin(fault) => {
                let wait = fault.retry_after.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX));
                SpanFailure { reason: fault.reason, retry_after_s: wait }
            }
        };
        self.lines.abort_all();
        if self.failed.is_none() {
            let (job, url) = (self.job, &self.lease.url);
            tracing::warn!(%job, %url, fence = self.lease.fence, error = %broken, "a span is given up");
            self.server.metrics.spans_failed.inc();
            self.failed = Some(failure);
        }
        None
    }

    fn answered(&mut self, report: &LeaseReport, answer: Result<Renewed, InfoError>) -> Option<Ending> {
        let renewed = match answer {
            Ok(renewed) => renewed,
            Err(InfoError::Refused { status, .. }) if status == StatusCode::CONFLICT => return Some(Ending::Stale),
            Err(InfoError::Refused { status, .. }) if is_over(status) => return Some(Ending::Gone),
            Err(error) => return self.unheard(&error),
        };
        (self.heard, self.pause) = (Instant::now(), PAUSES.0);
        for chunk in &report.chunks {
            self.news.remove(&chunk.n);
        }
        if report.failed.is_some() {
            return Some(Ending::Failed);
        }
        let Some(span) = renewed.span else { return Some(Ending::Over) };
        self.work.cut(span.end());
        if self.is_settled() && self.news.is_empty() && self.failed.is_none() {
            self.retell();
        }
        None
    }

    /// Everything was told, and yet something is missed: it is told again, a few times.
    fn retell(&mut self) {
        self.retells += 1;
        self.not_before = Instant::now() + NEWS;
        self.news.clone_from(&self.done);
        if self.retells > RETELLS {
            self.failed = Some(SpanFailure { reason: Reason::WorkersFailed, retry_after_s: None });
        }
    }

    /// The info-server is away, or has no time: the fetching goes on meanwhile.
    fn unheard(&mut self, error: &InfoError) -> Option<Ending> {
        tracing::debug!(job = %self.job, %error, "a report on a span did not arrive; trying again");
        if self.heard.elapsed() > PATIENCE {
            return Some(Ending::Gone);
        }
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        None
    }
}

/// Whether an answer says that there is nothing more to do for the job.
pub(super) fn is_over(status: StatusCode) -> bool {
    matches!(status, StatusCode::GONE | StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
}
