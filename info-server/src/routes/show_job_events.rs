use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State as Shared,
    response::sse::{Event, Sse},
};
use futures::{Stream, stream};
use jiff::Timestamp;
use lifecycle::{
    api::Gone,
    http::{Path, Query},
};
use tokio::sync::watch;
use wire::{
    JobId,
    job::{Asking, FetchedChunk, JobInfo},
};

use super::{
    create_job::{no_room, who},
    delete_job::left,
    show_job::{may_see, viewer, zones},
};
use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result},
    jobs::{
        askers::{Crowded, Who},
        board::NoRoom,
        turns::Turn,
    },
};

/// Chunks in one event.
const TOGETHER: usize = 1024;
/// Between two looks at what is new.
const GLANCE: Duration = Duration::from_millis(100);
/// Between two accounts of the job while it changes, and while it does not.
const JOB: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between two looks at whether the log-in that opened a stream still stands.
const LOG_IN: Duration = Duration::from_secs(5);
/// How long a stream waits for a decision that is stored slowly before it tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// `GET /v1/jobs/{id}/events`: the job and its chunks as they come; the open stream is the asker's lease.
///
/// `event: job` carries a job, at once and whenever it changes, at most twice a second, and every 10 seconds at least;
/// `event: chunks` a list of fetched chunks, all at the start and what is new afterwards. After a change of `generation` all
/// are told again. The stream ends when the job is forgotten, and when its asker left it, and when the log-in that opened it has ended.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job"), Asking), security(("session" = [])),
    responses((status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"), Gone)
)]
pub(super) async fn show_job_events(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Path(id): Path<JobId>,
    Query(asking): Query<Asking>,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let (viewer, who) = (viewer(&reader), who(&reader, asking));
    let opened = state.jobs.act(move |board, now| {
        let job = board.jobs.get_mut(&id).filter(|job| may_see(job, viewer)).ok_or(Error::NotFound)?;
        let admin = viewer.is_none() && who.asker.is_some();
        let takes_part = job.take_part(who, admin, now).map_err(|Crowded| no_room(NoRoom::Askers))?;
        // A process that left is not to believe that it is waited for; whoever names none may look.
        if takes_part || who.asker.is_none() { Ok(()) } else { Err(left()) }
    });
    opened.await??;
    let busy = Error::Busy { status: 503, retry_after: 5, detail: "too many streams of events are open" };
    let turn = state.jobs.stream(reader.user.id).ok_or(busy)?;
    let changed = state.jobs.changed.subscribe();
    let telling = Telling {
        state,
        reader,
        who,
        id,
        changed,
        queue: VecDeque::new(),
        told: 0,
        generation: 0,
        last: None,
        glanced: None,
        logged_in: Instant::now(),
        _turn: turn,
    };
    Ok(Sse::new(stream::unfold(telling, Telling::next)))
}

/// Where a stream stands.
struct Telling {
    state: Arc<State>,
    reader: Reader,
    who: Who,
    id: JobId,
    changed: watch::Receiver<u64>,
    queue: VecDeque<Event>,
    /// The job's version up to which chunks were told.
    told: u64,
    generation: u32,
    /// When the job was last told, and what.
    last: Option<(Instant, JobInfo)>,
    glanced: Option<Instant>,
    /// When the log-in was last seen to stand.
    logged_in: Instant,
    _turn: Turn,
}

impl Telling {
    async fn next(mut self) -> Option<(std::result::Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some((Ok(event), self));
            }
            let stop = self.state.shutdown.finishing().clone();
            stop.run_until_cancelled(self.wait()).await?;
            self.changed.mark_unchanged();
            self.glanced = Some(Instant::now());
            match self.look().await {
                Ok(Some((info, version, chunks))) => self.tell(info, version, &chunks),
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!("a stream of events waits: {error:?}");
                    stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await?;
                }
            }
        }
    }

    /// Until there may be something to tell.
    async fn wait(&mut self) {
        let Some(glanced) = self.glanced else { return };
        // An open stream is an asker's lease: it is renewed well before it ends.
        let next = glanced + KEEP_ALIVE.min(self.state.config.jobs.asker_grace / 3);
        // A job that changed twice in half a second is told of at the end of it, though nothing changes then.
        let soon = self.last.as_ref().map_or(glanced, |(at, _)| *at + JOB);
        let soon = if soon > glanced { soon } else { next };
        tokio::select! {
            _ = self.changed.changed() => {}
            () = tokio::time::sleep_until(next.min(soon).into()) => {}
        }
        tokio::time::sleep_until((glanced + GLANCE).into()).await;
    }

    /// The job, its version, and the chunks that are new; none when it is forgotten, the asker left it, or their log-in has ended.
    async fn look(&mut self) -> Result<Option<(JobInfo, u64, Vec<FetchedChunk>)>> {
        if self.logged_in.elapsed() >= LOG_IN {
            if self.state.store.session_user(self.reader.session, Timestamp::now()).await?.is_none() {
                return Ok(None);
            }
            self.logged_in = Instant::now();
        }
        let (id, who, viewer) = (self.id, self.who, viewer(&self.reader));
        let (zones, told, generation) = (zones(&self.state), self.told, self.generation);
        let looked = self.state.jobs.act(move |board, now| {
            let job = board.jobs.get_mut(&id).filter(|job| may_see(job, viewer))?;
            if who.asker.is_some() && job.has_left(who) {
                return None;
            }
            job.heard(who, now);
            let after = if job.row.generation == generation { told } else { 0 };
            Some((job.info(now.at, &|server| zones.get(server).cloned()), job.version, job.chunks_since(after)))
        });
        looked.await
    }

    fn tell(&mut self, info: JobInfo, version: u64, chunks: &[FetchedChunk]) {
        let now = Instant::now();
        let anew = info.generation != self.generation;
        let due = match &self.last {
            None => true,
            Some((at, last)) => {
                anew || last.state != info.state
                    || now.duration_since(*at) >= KEEP_ALIVE
                    || (*last != info && now.duration_since(*at) >= JOB)
            }
        };
        (self.told, self.generation) = (version, info.generation);
        if due {
            self.queue.extend(event("job", &info));
            self.last = Some((now, info));
        }
        self.queue.extend(chunks.chunks(TOGETHER).filter_map(|some| event("chunks", some)));
    }
}

fn event<T: serde::Serialize + ?Sized>(name: &str, data: &T) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}
