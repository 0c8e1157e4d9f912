use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State as Shared,
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::stream;
use http_front::{
    extract::{Path, Query},
    openapi::{Gone, TooManyRequests},
};
use jiff::Timestamp;
use tokio::sync::watch;
use wire::{
    JobId,
    job::{JobEventsQuery, JobInfo, RequesterQuery},
};

use super::{
    job_caller::{caller, server_zones},
    refusals::refused,
};
use crate::{
    error::{Error, Result},
    http::auth::SignedInUser,
    jobs::{
        coordinator::{
            queries::{EventsQuery, JobEvents},
            requests::Caller,
        },
        limiter::Permit,
    },
    state::State,
};

/// Header with which an answer asks nginx to pass it on as it comes, whatever nginx's settings are.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
const MAX_CHUNKS_PER_EVENT: usize = 1024;
/// Time between two looks at what is new.
const MIN_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time after which an open stream brings an event although nothing is new. Without one, a proxy holds the stream back.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two `job` events while the job changes.
const JOB_EVENT_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two `job` events while the job does not change.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two checks that the session that opened a stream is still open.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause of a stream before it tries again, after a decision that is stored slowly.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// `GET /v1/jobs/{id}/events`: the job and its chunks as they come; the open stream is the requester's lease.
///
/// `event: job` carries a job, at once and whenever it changes, at most twice a second, and every 10 seconds at least;
/// `event: chunks` a list of fetched chunks, all at the start and what is new afterwards; `event: alive` nothing, after the first
/// `job` and whenever a second passes without another event. After a change of `generation` all
/// are sent again. The stream ends when the job is forgotten, when its requester left, and when the session that opened it has ended.
/// With `once` it ends after the present state: so is a job followed through a proxy that holds back open streams.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "Jobs",
    params(("id" = JobId, Path, description = "The job"), JobEventsQuery), security(("session" = [])),
    responses((status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"), Gone, TooManyRequests)
)]
pub(crate) async fn show_job_events(
    Shared(state): Shared<Arc<State>>,
    reader: SignedInUser,
    Path(id): Path<JobId>,
    Query(query): Query<JobEventsQuery>,
) -> Result<impl IntoResponse> {
    let JobEventsQuery { requester, once } = query;
    let caller = caller(&reader, RequesterQuery { requester });
    state.jobs.subscribe(id, caller).await?.map_err(refused)?;
    let full = Error::Busy { status: 503, retry_after: 5, detail: "too many streams of events are open" };
    let permit = state.jobs.event_stream_permit(reader.user.id).ok_or(full)?;
    let commits = state.jobs.commits();
    let events = EventStream {
        state,
        session: reader.session,
        caller,
        job: id,
        once,
        commits,
        queue: VecDeque::new(),
        revision: 0,
        generation: 0,
        last_job: None,
        last_look: None,
        session_checked: Instant::now(),
        _permit: permit,
    };
    let stream = stream::unfold(events, EventStream::next);
    let keep_alive = KeepAlive::new().interval(ALIVE_INTERVAL).event(alive());
    Ok(([UNBUFFERED], Sse::new(stream).keep_alive(keep_alive)))
}

/// A job as it was last sent.
struct SentJob {
    at: Instant,
    info: JobInfo,
}

/// An open stream.
struct EventStream {
    state: Arc<State>,
    session: wire::Digest,
    caller: Caller,
    job: JobId,
    /// Set if the stream ends after the first look.
    once: bool,
    commits: watch::Receiver<u64>,
    queue: VecDeque<Event>,
    /// The revision of the job's chunks up to which they were sent.
    revision: u64,
    generation: u32,
    last_job: Option<SentJob>,
    last_look: Option<Instant>,
    session_checked: Instant,
    _permit: Permit,
}

impl EventStream {
    async fn next(mut self) -> Option<(std::result::Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some((Ok(event), self));
            }
            if self.once && self.last_look.is_some() {
                return None;
            }
            let stop = self.state.shutdown.finishing().clone();
            stop.run_until_cancelled(self.wait()).await?;
            self.commits.mark_unchanged();
            self.last_look = Some(Instant::now());
            match self.look().await {
                Ok(Some(events)) => self.enqueue(events),
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!(job = %self.job, "The event stream of job {} tries again later: {error:?}", self.job);
                    stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await?;
                }
            }
        }
    }

    /// Waits until there may be something new.
    async fn wait(&mut self) {
        let Some(last_look) = self.last_look else { return };
        // An open stream is a requester's lease: it is renewed well before it ends.
        let renewal = last_look + KEEP_ALIVE_INTERVAL.min(self.state.config.jobs.requester_grace / 3);
        // A job that changed twice in half a second is sent at the end of it, though nothing changes then.
        let soon = self.last_job.as_ref().map_or(last_look, |sent| sent.at + JOB_EVENT_INTERVAL);
        let soon = if soon > last_look { soon } else { renewal };
        tokio::select! {
            _ = self.commits.changed() => {}
            () = tokio::time::sleep_until(renewal.min(soon).into()) => {}
        }
        tokio::time::sleep_until((last_look + MIN_LOOK_INTERVAL).into()).await;
    }

    /// Returns the job and the chunks that are new; none when the job is forgotten, the requester left, or the session has ended.
    async fn look(&mut self) -> Result<Option<JobEvents>> {
        if self.session_checked.elapsed() >= SESSION_CHECK_INTERVAL {
            if self.state.db.session_user(self.session, Timestamp::now()).await?.is_none() {
                return Ok(None);
            }
            self.session_checked = Instant::now();
        }
        let (revision, generation, Caller { requester, viewer }) = (self.revision, self.generation, self.caller);
        let query = EventsQuery { viewer, requester, revision, generation };
        self.state.jobs.events(self.job, query, server_zones(&self.state)).await
    }

    fn enqueue(&mut self, events: JobEvents) {
        let JobEvents { info, revision, chunks } = events;
        let now = Instant::now();
        let withdrawn = info.generation != self.generation;
        let is_due = match &self.last_job {
            None => true,
            Some(sent) => {
                let age = now.duration_since(sent.at);
                withdrawn
                    || sent.info.state != info.state
                    || age >= KEEP_ALIVE_INTERVAL
                    || (sent.info != info && age >= JOB_EVENT_INTERVAL)
            }
        };
        (self.revision, self.generation) = (revision, info.generation);
        if is_due {
            self.queue.extend(event("job", &info));
            if self.last_job.is_none() {
                self.queue.push_back(alive());
            }
            self.last_job = Some(SentJob { at: now, info });
        }
        self.queue.extend(chunks.chunks(MAX_CHUNKS_PER_EVENT).filter_map(|some| event("chunks", some)));
    }
}

fn event<T: serde::Serialize + ?Sized>(name: &str, data: &T) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}

/// Returns the event without news. Its data is the longest gap between two events, in seconds.
fn alive() -> Event {
    Event::default().event("alive").data(ALIVE_INTERVAL.as_secs().to_string())
}
