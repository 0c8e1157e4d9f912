//! The routes of the stand-in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use jiff::Timestamp;
use wire::{
    ChunkLayout, Digest, FileId, JobId, Problem, ServerId,
    catalogue::{CommitRequest, FileDetails, FileState, FileSummary, IssuedToken, NewFile, UploadPlan, UploadTarget},
    event::{Event, EventPayload, LogHeader, SCHEMA, Stream},
    id::Epoch,
    job::{LeaseOffer, LeaseRenewal, LeaseReport, Span},
    server::{Heartbeat, HeartbeatAnswer, Introspection, ReconcileAnswer, ReconcileRequest, ReplicaReport},
    token::{GrantPurpose, TokenKind},
};

use super::{JOIN_SECRET, Job, Shared, grant_of};

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/servers/{id}", put(beat).delete(leave))
        .route("/v1/servers/{id}/events", get(events))
        .route("/v1/tokens/introspect", post(introspect))
        .route("/v1/files/{id}/replicas/{server}", put(report))
        .route("/v1/files", post(announce))
        .route("/v1/files/{id}", get(details))
        .route("/v1/files/{id}/manifest", get(manifest))
        .route("/v1/files/{id}/commit", post(commit))
        .route("/v1/servers/{id}/reconcile", post(reconcile))
        .route("/v1/jobs/{id}/leases", post(claim))
        .route("/v1/jobs/{id}/leases/{fence}", put(renew))
        .with_state(shared)
}

fn bearer(headers: &HeaderMap) -> String {
    let value = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.trim_start_matches("Bearer ").to_owned()
}

async fn beat(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<ServerId>,
    headers: HeaderMap,
    Json(heartbeat): Json<Heartbeat>,
) -> Response {
    let epoch = *shared.epoch.lock().unwrap();
    let mut received = shared.received.lock().unwrap();
    if received.conflict {
        return StatusCode::CONFLICT.into_response();
    }
    match (bearer(&headers), heartbeat.secret_sha256) {
        (secret, Some(hash)) if secret == JOIN_SECRET => {
            received.enrolled.insert(id.clone(), hash);
        }
        (secret, _) if received.enrolled.get(&id) == Some(&Digest::of(secret.as_bytes())) => {}
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    }
    let streams = Stream::of_server(&id, &heartbeat.zone)
        .into_iter()
        .filter_map(|own| Some((own.clone(), received.log.iter().rfind(|event| event.stream == own)?.seq)))
        .collect();
    received.beats.push(heartbeat);
    drop(received);
    shared.changed.send_replace(());
    Json(HeartbeatAnswer {
        now: Timestamp::now(),
        epoch,
        streams,
        as_of: None,
        lease_s: 10,
        reachable: true,
        pull_limits: BTreeMap::new(),
    })
    .into_response()
}

async fn leave(State(shared): State<Arc<Shared>>, Path(id): Path<ServerId>) -> StatusCode {
    shared.received.lock().unwrap().left.push(id);
    shared.changed.send_replace(());
    StatusCode::NO_CONTENT
}

async fn introspect(State(shared): State<Arc<Shared>>, Json(asked): Json<Introspection>) -> Response {
    let mut received = shared.received.lock().unwrap();
    received.introspections.push(asked.token_hash);
    match received.grants.get(&asked.token_hash) {
        Some(grant) => Json(grant.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn report(
    State(shared): State<Arc<Shared>>,
    Path((file, server)): Path<(FileId, ServerId)>,
    Json(report): Json<ReplicaReport>,
) -> StatusCode {
    let mut received = shared.received.lock().unwrap();
    received.report_history.push((file, report.clone()));
    let before = received.replicas.get(&(file, server.clone()));
    if before.is_none_or(|before| before.counter < report.counter) {
        received.replicas.insert((file, server), report.clone());
    }
    if received.reports.get(&file).is_none_or(|before| before.counter < report.counter) {
        received.reports.insert(file, report);
    }
    drop(received);
    shared.changed.send_replace(());
    StatusCode::NO_CONTENT
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Path(_): Path<ServerId>,
    Query(query): Query<HashMap<String, String>>,
) -> String {
    let after: u64 = query["after"].parse().unwrap();
    let wait = Duration::from_secs(query["wait"].parse().unwrap());
    let mut changed = shared.changed.subscribe();
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let epoch = *shared.epoch.lock().unwrap();
        let snapshot = query.get("epoch") != Some(&epoch.to_string());
        let log = shared.received.lock().unwrap().log.clone();
        let as_of = log.last().map_or(0, |event| event.seq);
        let new: Vec<_> = log.into_iter().filter(|event| snapshot || event.seq > after).collect();
        if snapshot || !new.is_empty() || tokio::time::Instant::now() >= deadline {
            let header = LogHeader { epoch, as_of, snapshot };
            let mut lines = vec![serde_json::to_string(&header).unwrap()];
            let received = shared.received.lock().unwrap();
            lines.extend(received.noise.clone());
            lines.extend((0..received.padding).filter(|_| snapshot).map(|_| unknown(epoch)));
            lines.extend(new.iter().map(|event| serde_json::to_string(event).unwrap()));
            return lines.join("\n") + "\n";
        }
        let _ = tokio::time::timeout_at(deadline, changed.changed()).await;
    }
}

/// Returns the locations of a file, with a token for it.
async fn details(State(shared): State<Arc<Shared>>, Path(file): Path<FileId>) -> Response {
    let mut received = shared.received.lock().unwrap();
    let Some((manifest, locations)) = received.published.get(&file).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (token, grant) = grant_of(TokenKind::Download, GrantPurpose::Download, file, |grant| grant);
    let download = IssuedToken { token, token_id: grant.token_id, expires_at: grant.expires_at, lifetime_s: None };
    received.grants.insert(grant.token_hash, grant);
    let summary = FileSummary {
        id: file,
        name: "x".parse().unwrap(),
        size: manifest.size,
        sha256: manifest.sha256,
        chunk_size: manifest.chunk_size,
        state: FileState::Available,
        media_type: None,
        created_at: Timestamp::now(),
        live_replicas: 1,
        lost_chunks: 0,
    };
    Json(FileDetails {
        summary,
        root: manifest.root,
        locations,
        download: Some(download),
        pull_limits: BTreeMap::new(),
        missing: None,
    })
    .into_response()
}

async fn manifest(State(shared): State<Arc<Shared>>, Path(file): Path<FileId>) -> Response {
    let mut received = shared.received.lock().unwrap();
    if let Some(status) = received.proxy_status {
        received.refused_manifests += 1;
        return status.into_response();
    }
    match received.published.get(&file) {
        Some((manifest, _)) => Json(manifest.clone()).into_response(),
        None => {
            let problem = Problem::new(404, "not-found", "Not found");
            (StatusCode::NOT_FOUND, Json(problem)).into_response()
        }
    }
}

/// Returns a mebibyte of an event of an unknown type.
fn unknown(epoch: Epoch) -> String {
    let at = Timestamp::now();
    let event =
        Event { schema: SCHEMA, epoch, stream: Stream::All, prev: 0, seq: 1, at, payload: EventPayload::Unknown };
    let mut value = serde_json::to_value(event).unwrap();
    value["padding"] = "x".repeat(1 << 20).into();
    value.to_string()
}

/// The one target is the server that the file is to go through.
async fn announce(State(shared): State<Arc<Shared>>, Json(new): Json<NewFile>) -> (StatusCode, Json<UploadPlan>) {
    let mut received = shared.received.lock().unwrap();
    let (id, server) = (FileId::new(), new.policy.clone().unwrap().through.unwrap());
    let beat = received.beats.last().unwrap().clone();
    let chunk_size = ChunkLayout::of(new.size).unwrap().chunk_size();
    let purpose = GrantPurpose::Upload { size: new.size, chunk_size, targets: vec![server.clone()] };
    let (token, grant) = grant_of(TokenKind::Upload, purpose, id, |grant| grant);
    let upload = IssuedToken { token, token_id: grant.token_id, expires_at: grant.expires_at, lifetime_s: None };
    received.grants.insert(grant.token_hash, grant);
    received.announced.push((id, new));
    let url = beat.url.join(&format!("v1/files/{id}/chunks")).unwrap();
    let targets = vec![UploadTarget { server, zone: beat.zone, url }];
    (StatusCode::CREATED, Json(UploadPlan { id, chunk_size, quorum: 1, upload, targets }))
}

/// Waits for the replica with this root, as the real one does.
async fn commit(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<FileId>,
    Json(commit): Json<CommitRequest>,
) -> Json<FileSummary> {
    let root = Digest::root_of(&commit.chunks);
    let mut changed = shared.changed.subscribe();
    while shared.received.lock().unwrap().reports.get(&id).and_then(|report| report.root) != Some(root) {
        changed.changed().await.unwrap();
    }
    let received = shared.received.lock().unwrap();
    let new = received.announced.iter().find(|(known, _)| *known == id).unwrap().1.clone();
    Json(FileSummary {
        id,
        name: new.name,
        size: new.size,
        sha256: Some(commit.sha256),
        chunk_size: ChunkLayout::of(new.size).unwrap().chunk_size(),
        state: FileState::Available,
        media_type: None,
        created_at: Timestamp::now(),
        live_replicas: 1,
        lost_chunks: 0,
    })
}

async fn reconcile(State(shared): State<Arc<Shared>>, Json(asked): Json<ReconcileRequest>) -> Json<ReconcileAnswer> {
    let received = shared.received.lock().unwrap();
    let mut answer = ReconcileAnswer::default();
    for file in asked.files {
        match received.reconciled.get(&file).copied() {
            Some("delete") => answer.delete.push(file),
            Some("unknown") => answer.unknown.push(file),
            _ => answer.keep.push(file),
        }
    }
    Json(answer)
}

async fn claim(State(shared): State<Arc<Shared>>, Path(id): Path<JobId>) -> Response {
    let answer = {
        let mut received = shared.received.lock().unwrap();
        let Some(job) = received.jobs.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
        job.claims += 1;
        if job.over {
            StatusCode::GONE.into_response()
        } else {
            let lease = job.leases.pop_front();
            job.granted.extend(lease.iter().map(|lease| (lease.fence, lease.span)));
            Json(LeaseOffer { lease, again_ms: 200 }).into_response()
        }
    };
    shared.changed.send_replace(());
    answer
}

async fn renew(
    State(shared): State<Arc<Shared>>,
    Path((id, fence)): Path<(JobId, u64)>,
    Json(report): Json<LeaseReport>,
) -> Response {
    let answer = {
        let mut received = shared.received.lock().unwrap();
        let Some(job) = received.jobs.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
        if job.over {
            StatusCode::GONE.into_response()
        } else if job.stale.contains(&fence) {
            job.granted.remove(&fence);
            StatusCode::CONFLICT.into_response()
        } else {
            renewed(job, fence, report)
        }
    };
    shared.changed.send_replace(());
    answer
}

fn renewed(job: &mut Job, fence: u64, report: LeaseReport) -> Response {
    let Some(span) = job.granted.get(&fence).copied() else { return StatusCode::CONFLICT.into_response() };
    let received = job.received.entry(fence).or_default();
    received.extend(report.chunks.iter().map(|chunk| chunk.n));
    let end = job.cut.get(&fence).copied().unwrap_or(span.end());
    let whole = (span.start()..end).all(|n| received.contains(&n));
    let over = whole || report.failed.is_some();
    job.reports.push((fence, report));
    if over {
        job.granted.remove(&fence);
    }
    let span = (!over).then(|| Span::try_from([span.start(), end]).unwrap());
    Json(LeaseRenewal { span, lease_s: 5 }).into_response()
}
