//! A stand-in for the info-server: holds grants and a log, and records the requests it received.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    future::IntoFuture as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::watch, task::JoinHandle};
use wire::{
    ChunkLayout, Digest, FileId, JobId, ServerId, TokenId,
    catalogue::{
        CommitRequest, FileDetails, FileState, FileSummary, IssuedToken, Location, Manifest, NewFile, UploadPlan,
        UploadTarget,
    },
    event::{Event, EventPayload, LogHeader, SCHEMA, Stream},
    id::Epoch,
    job::{Lease, LeaseOffer, LeaseRenewal, LeaseReport, Span, SpanFailure},
    server::{Heartbeat, HeartbeatAnswer, Introspection, ReconcileAnswer, ReconcileRequest, ReplicaReport},
    token::{Grant, GrantPurpose, Revocation, Token, TokenKind},
};

pub(crate) const JOIN_SECRET: &str = "a secret to join with";

#[derive(Default)]
pub(crate) struct Received {
    pub(crate) grants: HashMap<Digest, Grant>,
    pub(crate) enrolled: HashMap<ServerId, Digest>,
    pub(crate) beats: Vec<Heartbeat>,
    pub(crate) left: Vec<ServerId>,
    pub(crate) introspections: Vec<Digest>,
    pub(crate) reports: HashMap<FileId, ReplicaReport>,
    /// All of them, in order.
    pub(crate) report_history: Vec<(FileId, ReplicaReport)>,
    /// The last ones by server.
    pub(crate) replicas: HashMap<(FileId, ServerId), ReplicaReport>,
    pub(crate) log: Vec<Event>,
    pub(crate) conflict: bool,
    /// Lines that stand before the events of every answer from the log.
    pub(crate) noise: Vec<String>,
    /// Mebibytes of events of unknown types before the others in a snapshot.
    pub(crate) padding: usize,
    pub(crate) announced: Vec<(FileId, NewFile)>,
    /// Published files and where they are.
    pub(crate) published: HashMap<FileId, (Manifest, Vec<Location>)>,
    pub(crate) jobs: HashMap<JobId, Job>,
    /// Answers to questions about files; those that it does not name are kept.
    pub(crate) reconciled: HashMap<FileId, &'static str>,
}

/// A job as its workers see it.
#[derive(Default)]
pub(crate) struct Job {
    /// Handed out in this order.
    pub(crate) leases: VecDeque<Lease>,
    pub(crate) claims: usize,
    /// Reports under each fence, in order.
    pub(crate) reports: Vec<(u64, LeaseReport)>,
    /// Present ends of spans.
    pub(crate) cut: HashMap<u64, u32>,
    pub(crate) stale: HashSet<u64>,
    pub(crate) over: bool,
    pub(crate) granted: HashMap<u64, Span>,
    pub(crate) received: HashMap<u64, BTreeSet<u32>>,
}

impl Job {
    /// Returns the digests received so far, under any fence.
    pub(crate) fn chunks(&self) -> BTreeMap<u32, Digest> {
        self.reports.iter().flat_map(|(_, report)| &report.chunks).map(|chunk| (chunk.n, chunk.sha256)).collect()
    }

    /// Returns the reasons for which spans were given back.
    pub(crate) fn failures(&self) -> Vec<SpanFailure> {
        self.reports.iter().filter_map(|(_, report)| report.failed.clone()).collect()
    }

    /// Returns the number of leases that were not wholly reported yet.
    pub(crate) fn open(&self) -> usize {
        self.granted.len()
    }
}

pub(crate) struct Shared {
    received: Mutex<Received>,
    epoch: Mutex<Epoch>,
    changed: watch::Sender<()>,
}

pub(crate) struct Info {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Info {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Info {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            epoch: Mutex::new(Epoch::new()),
            changed: watch::Sender::new(()),
        });
        let router = Router::new()
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
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).into_future().await.unwrap() });
        Self { url, shared, task }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.shared.received.lock().unwrap()
    }

    /// Waits until the received requests satisfy `enough`.
    pub(crate) async fn wait_until(&self, enough: impl Fn(&Received) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            while !enough(&self.received()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("received in time");
    }

    /// Ends every connection: requests get no answer any more.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    /// Publishes a file: from now on who asks is sent to these servers, own zone first. Those that hold everything say so.
    pub(crate) fn publish_file(&self, file: FileId, bytes: &[u8], servers: &[(&ServerId, &str, bool)]) {
        let size = u64::try_from(bytes.len()).unwrap();
        let layout = ChunkLayout::of(size).unwrap();
        let part = |chunk| {
            let range = layout.bytes_of(chunk);
            &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
        };
        let chunks: Vec<Digest> = layout.chunks().map(|chunk| Digest::of(part(chunk))).collect();
        let manifest = Manifest {
            file,
            size,
            chunk_size: layout.chunk_size(),
            sha256: Some(Digest::of(bytes)),
            root: Some(Digest::root_of(&chunks)),
            chunks: chunks.into_iter().map(Some).collect(),
        };
        let locations = servers.iter().map(|(server, url, whole)| Location {
            server: (*server).clone(),
            zone: "eu".parse().unwrap(),
            url: format!("{url}/v1/files/{file}/content").parse().unwrap(),
            runs: if *whole { layout.all() } else { wire::ChunkSet::new() },
            cost: 0,
        });
        self.received().published.insert(file, (manifest, locations.collect()));
    }

    /// A token that only an introspection finds.
    pub(crate) fn token(&self, grant: impl FnOnce(Grant) -> Grant) -> Token {
        let (token, grant) = grant_of(TokenKind::Download, GrantPurpose::Download, FileId::new(), grant);
        self.received().grants.insert(token.hash(), grant);
        token
    }

    pub(crate) fn download(&self, file: FileId) -> Token {
        self.token(|grant| Grant { file, ..grant })
    }

    pub(crate) fn upload(&self, file: FileId, size: u64, target: &ServerId) -> Token {
        let chunk_size = ChunkLayout::of(size).unwrap().chunk_size();
        let purpose = GrantPurpose::Upload { size, chunk_size, targets: vec![target.clone()] };
        let (token, grant) = grant_of(TokenKind::Upload, purpose, file, |grant| grant);
        self.received().grants.insert(token.hash(), grant);
        token
    }

    /// Appends an event to the log.
    pub(crate) fn publish(&self, stream: Stream, payload: EventPayload) {
        let epoch = *self.shared.epoch.lock().unwrap();
        let mut received = self.received();
        let prev = received.log.iter().filter(|event| event.stream == stream).map(|event| event.seq).max().unwrap_or(0);
        let seq = received.log.last().map_or(1, |event| event.seq + 1);
        received.log.push(Event { schema: SCHEMA, epoch, stream, prev, seq, at: Timestamp::now(), payload });
        drop(received);
        self.shared.changed.send_replace(());
    }

    pub(crate) fn revoke(&self, token: &Token) {
        let grant = self.received().grants.remove(&token.hash()).unwrap();
        let revocation =
            Revocation { token_hash: token.hash(), token_id: grant.token_id, expires_at: grant.expires_at };
        self.publish(Stream::All, EventPayload::TokenRevoked { tokens: vec![revocation] });
    }

    /// Begins a new life of the catalogue with an empty log.
    pub(crate) fn restore(&self) {
        *self.shared.epoch.lock().unwrap() = Epoch::new();
        self.received().log.clear();
        self.shared.changed.send_replace(());
    }
}

pub(crate) fn grant_of(
    kind: TokenKind,
    purpose: GrantPurpose,
    file: FileId,
    change: impl FnOnce(Grant) -> Grant,
) -> (Token, Grant) {
    let token = Token::generate(kind);
    let expires_at = Timestamp::now() + SignedDuration::from_mins(15);
    let grant = Grant { token_hash: token.hash(), token_id: TokenId::new(), file, zones: None, expires_at, purpose };
    (token, change(grant))
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
    let received = shared.received.lock().unwrap();
    received
        .published
        .get(&file)
        .map_or(StatusCode::NOT_FOUND.into_response(), |(manifest, _)| Json(manifest.clone()).into_response())
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
