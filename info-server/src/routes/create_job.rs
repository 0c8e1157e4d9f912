use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode};
use jiff::{SignedDuration, Timestamp};
use lifecycle::{
    api::TooMany,
    http::{Json, Query},
};
use serde_json::json;
use wire::{
    JobId, Problem,
    job::{Asking, JobInfo, JobState, MAX_CONNECTIONS, NewJob, Reason},
};

use crate::{
    app::State,
    caller::Reader,
    error::{Error, Result, invalid},
    jobs::{
        askers::{Crowded, Who},
        asking::Answer,
        board::{Board, Found, NoRoom},
        effects::Effect,
        job::Moment,
        word,
    },
    store::audit::{Deed, Kind},
};

/// Zones that one job may be held to.
const MAX_ZONES: usize = 32;
/// The latest beginning.
const LATEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// `POST /v1/jobs`: has a URL fetched together, or joins the job that does so.
///
/// 200 when a job was joined, or when the URL is better fetched by the caller alone: the state is then *direct*, and nothing
/// is kept. A URL that cannot be fetched is refused with 422, and `reason` says why. A process that sends an id of its own as
/// `asker`, here and with whatever else it asks of the job, leaves without the other processes of its account.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "Jobs",
    params(Asking), request_body = NewJob, security(("session" = [])),
    responses(
        (status = 201, description = "It is fetched, or waits for its time", body = JobInfo),
        (status = 200, description = "Joined, or to be fetched by the caller alone", body = JobInfo),
        TooMany,
    )
)]
pub(super) async fn create_job(
    Shared(state): Shared<Arc<State>>,
    reader: Reader,
    Query(asking): Query<Asking>,
    Json(new): Json<NewJob>,
) -> Result<(StatusCode, axum::Json<JobInfo>)> {
    check(&new)?;
    let who = who(&reader, asking);
    let later = new.start_at.is_some_and(|start_at| start_at > Timestamp::now());
    let found = if later {
        None
    } else {
        if let Some(joined) = join(&state, who, &new).await? {
            return Ok((StatusCode::OK, axum::Json(joined)));
        }
        match ask(&state, who.user, &new).await? {
            Ok(found) => Some(found),
            Err(direct) => return Ok((StatusCode::OK, axum::Json(*direct))),
        }
    };
    let deed = Deed::new(Kind::JobCreated).by(who.user, reader.address);
    let (status, info) = state
        .jobs
        .act(move |board, now| match join_in(board, who, &new, now) {
            Some(joined) => joined.map(|id| (StatusCode::OK, id)),
            None => board.room(who.user).map(|()| {
                let detail = json!({ "url": new.url.to_string(), "keep": new.keep, "start_at": new.start_at });
                let id = board.create(new, found, (who, rand::random()), now);
                if let Some(job) = board.jobs.get_mut(&id) {
                    job.follow(Effect::Record(deed.about(id).with(detail)));
                }
                (StatusCode::CREATED, id)
            }),
        })
        .await?
        .map_err(no_room)?;
    let info = super::show_job::info(&state, info).await?.ok_or(Error::NotFound)?;
    Ok((status, axum::Json(info)))
}

/// In whose name something is asked.
pub(super) const fn who(reader: &Reader, asking: Asking) -> Who {
    Who { user: reader.user.id, asker: asking.asker }
}

fn check(new: &NewJob) -> Result<()> {
    if new.connections.is_some_and(|connections| !(1..=MAX_CONNECTIONS).contains(&connections)) {
        return Err(invalid(format!("connections must be between 1 and {MAX_CONNECTIONS}")));
    }
    if new.zones.as_ref().is_some_and(|zones| !(1..=MAX_ZONES).contains(&zones.len())) {
        return Err(invalid(format!("zones must name 1 to {MAX_ZONES} zones; leave it out for any")));
    }
    if new.start_at.is_some_and(|start_at| start_at.duration_since(Timestamp::now()) > LATEST) {
        return Err(invalid("start_at must be within a year"));
    }
    Ok(())
}

pub(super) fn no_room(why: NoRoom) -> Error {
    match why {
        NoRoom::Account => {
            let problem = Problem::new(429, "too-many-jobs", "You take part in too many jobs")
                .detail("leave one of them with DELETE /v1/jobs/{id}, or wait until one is over");
            Error::Throttled { problem, retry_after: 60 }
        }
        NoRoom::Askers => {
            let problem = Problem::new(429, "too-many-askers", "Too many of your processes ask for this job")
                .detail("have some of them leave with DELETE /v1/jobs/{id}?asker=, or ask without an id of your own");
            Error::Throttled { problem, retry_after: 60 }
        }
        NoRoom::Everybody => Error::Busy { status: 503, retry_after: 60, detail: "there are too many jobs" },
    }
}

/// Joins a job that is there already.
fn join_in(board: &mut Board, who: Who, new: &NewJob, now: Moment) -> Option<std::result::Result<JobId, NoRoom>> {
    let id = board.joinable(new, now)?;
    let joined = board.jobs.get_mut(&id)?.join(who, new.keep, now);
    Some(joined.map(|()| id).map_err(|Crowded| NoRoom::Askers))
}

async fn join(state: &State, who: Who, new: &NewJob) -> Result<Option<JobInfo>> {
    let new = new.clone();
    let joined = state
        .jobs
        .act(move |board, now| {
            let id = board.joinable(&new, now)?;
            // Whoever takes part already needs no further room.
            let known = board.jobs.get(&id)?.holds(who.user);
            if let Err(full) = board.room(who.user).or_else(|full| if known { Ok(()) } else { Err(full) }) {
                return Some(Err(full));
            }
            join_in(board, who, &new, now)
        })
        .await?;
    match joined.transpose().map_err(no_room)? {
        Some(id) => super::show_job::info(state, id).await,
        None => Ok(None),
    }
}

/// Asks the origin; what the caller is told at once when the URL is not fetched together.
async fn ask(state: &State, user: i64, new: &NewJob) -> Result<std::result::Result<Found, Box<JobInfo>>> {
    match state.jobs.asking.probe(user, &new.url, new.sha256.is_some()).await {
        Answer::Parts(found) if found.sha256.is_some() && new.sha256.is_some() && found.sha256 != new.sha256 => {
            Err(refused(Reason::WrongDigest))
        }
        Answer::Parts(found) => {
            let admitted = |zone| new.zones.as_ref().is_none_or(|zones| zones.contains(zone));
            if state.live().iter().any(|server| admitted(&server.zone)) {
                return Ok(Ok(found));
            }
            let size = Some(found.size);
            Ok(Err(Box::new(direct(new, Reason::NoWorkers, (size, found.sha256, found.name)))))
        }
        Answer::Alone(reason, probe) => Ok(Err(Box::new(direct(new, reason, (probe.size, probe.sha256, probe.name))))),
        Answer::No(reason) => Err(refused(reason)),
    }
}

fn refused(reason: Reason) -> Error {
    let problem = Problem::new(422, "not-fetched", "The URL cannot be fetched").detail(reason.sentence());
    Error::Refused(problem.with("reason", word(reason)))
}

fn direct(
    new: &NewJob,
    reason: Reason,
    (size, sha256, name): (Option<u64>, Option<wire::Digest>, wire::FileName),
) -> JobInfo {
    let now = Timestamp::now();
    JobInfo {
        id: JobId::new(),
        url: new.url.clone(),
        name: new.name.clone().unwrap_or(name),
        state: JobState::Direct,
        reason: Some(reason),
        next_try: None,
        file: None,
        formerly: Vec::new(),
        size,
        chunk_size: None,
        sha256: new.sha256.or(sha256),
        checked: None,
        generation: 0,
        connections: new.connections.unwrap_or(1),
        start_at: now,
        created_at: now,
        keep: new.keep,
        expires_at: None,
        chunks: 0,
        fetched: 0,
        workers: Vec::new(),
        askers: 1,
    }
}
