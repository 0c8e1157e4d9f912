//! A stand-in for the info-server: holds grants and a log, and records the requests it received.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    future::IntoFuture as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use tokio::{sync::watch, task::JoinHandle};
use wire::{
    ChunkLayout, Digest, FileId, JobId, ServerId, TokenId,
    catalogue::{Location, Manifest, NewFile},
    event::{Event, EventPayload, SCHEMA, Stream},
    id::Epoch,
    job::{Lease, LeaseReport, Span, SpanFailure},
    server::{Heartbeat, ReplicaReport},
    token::{Grant, GrantPurpose, Revocation, Token, TokenKind},
};

mod routes;

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
    /// Status with which a proxy answers every request for a manifest.
    pub(crate) proxy_status: Option<StatusCode>,
    pub(crate) refused_manifests: u32,
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
        let router = routes::router(shared.clone());
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
