use std::{sync::Arc, time::Duration};

use axum::{extract::State as Shared, http::StatusCode};
use http_front::{
    extract::{Json, Query},
    openapi::TooManyRequests,
};
use jiff::{SignedDuration, Timestamp};
use wire::{
    JobId, Problem, ProblemKind,
    job::{JobInfo, JobReason, JobState, MAX_CONNECTIONS, NewJob, RequesterQuery},
};

use super::{
    job_caller::{caller, server_zones},
    refusals::{no_room, reason_word},
};
use crate::{
    accounts::audit::{AuditEntry, AuditKind},
    error::{Error, Result, invalid},
    http::auth::SignedInUser,
    jobs::{
        coordinator::{
            admission::{Admitted, JobRequest},
            queries::JobViewer,
        },
        origin_probe::{ProbeOutcome, ProbedContent},
    },
    state::State,
};

/// Zones that one job may be held to.
const MAX_ZONES: usize = 32;
/// The latest start of a job, from now.
const MAX_START_DELAY: SignedDuration = SignedDuration::from_hours(366 * 24);

/// `POST /v1/jobs`: has a URL fetched by the file servers, or joins the job that does so.
///
/// 200 when a job was joined, or when the URL is better fetched by the caller alone: the state is then *direct*, and nothing
/// is kept. A URL that cannot be fetched is refused with 422, and `reason` says why. A process that sends an id of its own as
/// `asker`, here and with all other requests about the job, leaves without the other processes of its account.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "Jobs",
    params(RequesterQuery), request_body = NewJob, security(("session" = [])),
    responses(
        (status = 201, description = "It is fetched, or waits for its time", body = JobInfo),
        (status = 200, description = "Joined, or to be fetched by the caller alone", body = JobInfo),
        TooManyRequests,
    )
)]
pub(crate) async fn create_job(
    Shared(state): Shared<Arc<State>>,
    reader: SignedInUser,
    Query(query): Query<RequesterQuery>,
    Json(new): Json<NewJob>,
) -> Result<(StatusCode, axum::Json<JobInfo>)> {
    check(&new)?;
    let requester = caller(&reader, query).requester;
    let request = JobRequest { new, requester, seed: rand::random() };
    let later = request.new.start_at.is_some_and(|start_at| start_at > Timestamp::now());
    let content = if later {
        None
    } else {
        let joined = match state.jobs.join(request.clone()).await?.map_err(no_room)? {
            Some(id) => info(&state, id).await?,
            None => None,
        };
        if let Some(joined) = joined {
            return Ok((StatusCode::OK, axum::Json(joined)));
        }
        match probe(&state, requester.user, &request.new).await? {
            Probed::Divisible(content) => Some(content),
            Probed::Direct(direct) => return Ok((StatusCode::OK, axum::Json(*direct))),
        }
    };
    let entry = AuditEntry::new(AuditKind::JobCreated).by(requester.user, reader.address);
    let (status, id) = match state.jobs.join_or_create(request, content, entry).await?.map_err(no_room)? {
        Admitted::Joined(id) => (StatusCode::OK, id),
        Admitted::Created(id) => (StatusCode::CREATED, id),
    };
    let info = info(&state, id).await?.ok_or(Error::NotFound)?;
    Ok((status, axum::Json(info)))
}

async fn info(state: &State, id: JobId) -> Result<Option<JobInfo>> {
    state.jobs.view(id, JobViewer::Admin, server_zones(state)).await
}

fn check(new: &NewJob) -> Result<()> {
    if new.connections.is_some_and(|connections| !(1..=MAX_CONNECTIONS).contains(&connections)) {
        return Err(invalid(format!("connections must be between 1 and {MAX_CONNECTIONS}")));
    }
    if new.zones.as_ref().is_some_and(|zones| !(1..=MAX_ZONES).contains(&zones.len())) {
        return Err(invalid(format!("zones must name 1 to {MAX_ZONES} zones; leave it out for any")));
    }
    if new.start_at.is_some_and(|start_at| start_at.duration_since(Timestamp::now()) > MAX_START_DELAY) {
        return Err(invalid("start_at must be within a year"));
    }
    Ok(())
}

/// The result of a probe that does not refuse the URL.
enum Probed {
    /// Workers can fetch the content in parts.
    Divisible(ProbedContent),
    /// The caller is to fetch the content alone; this is its answer.
    Direct(Box<JobInfo>),
}

async fn probe(state: &State, user: i64, new: &NewJob) -> Result<Probed> {
    match state.jobs.probe_origin(user, &new.url, new.sha256.is_some()).await {
        ProbeOutcome::Divisible(found)
            if found.sha256.is_some() && new.sha256.is_some() && found.sha256 != new.sha256 =>
        {
            Err(refused(JobReason::WrongDigest, None))
        }
        ProbeOutcome::Divisible(found) => {
            let admits = |zone| new.zones.as_ref().is_none_or(|zones| zones.contains(zone));
            if state.live().iter().any(|server| admits(&server.zone)) {
                return Ok(Probed::Divisible(found));
            }
            let (size, sha256, name) = (Some(found.size), found.sha256, found.name);
            Ok(Probed::direct(new, JobReason::NoWorkers, Content { size, sha256, name }))
        }
        ProbeOutcome::DirectOnly(reason, probe) => {
            let origin::Probe { size, sha256, name, .. } = *probe;
            Ok(Probed::direct(new, reason, Content { size, sha256, name }))
        }
        ProbeOutcome::Failed { reason, retry_after } => Err(refused(reason, retry_after)),
    }
}

fn refused(reason: JobReason, retry_after: Option<Duration>) -> Error {
    let problem = Problem::new(422, ProblemKind::NotFetched, "URL cannot be fetched").detail(reason.sentence());
    let problem = problem.with("reason", reason_word(reason));
    Error::Refused(match retry_after {
        Some(pause) => problem.with("retry_after_s", pause.as_secs()),
        None => problem,
    })
}

/// The content of a URL that the caller is to fetch alone, as far as it is known.
struct Content {
    size: Option<u64>,
    sha256: Option<wire::Digest>,
    name: wire::FileName,
}

impl Probed {
    fn direct(new: &NewJob, reason: JobReason, content: Content) -> Self {
        Self::Direct(Box::new(direct_info(new, reason, content)))
    }
}

fn direct_info(new: &NewJob, reason: JobReason, Content { size, sha256, name }: Content) -> JobInfo {
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
        validator: None,
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
        requesters: 1,
    }
}
