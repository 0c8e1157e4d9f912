//! Publication to real servers that accept, refuse, lose and hold chunks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its fixtures too")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, put},
};
use ddm_transfer::{
    rate_limiter::RateLimiter,
    source::client_builder,
    upload::{Published, Publisher, UploadError, UploadEvent},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::{
    ChunkLayout, Digest, FileId, TokenId,
    catalogue::{IssuedToken, UploadPlan, UploadTarget},
    server::HeldChunks,
    token::{Token, TokenKind},
};

const MIB: u64 = 1 << 20;

/// The chunks of a server, and the statuses with which it refuses the next ones.
#[derive(Default)]
struct Store {
    chunks: BTreeMap<u32, Bytes>,
    refusals: Vec<u16>,
    always: Option<u16>,
    /// The body of refusals.
    problem: &'static str,
    puts: u32,
}

struct Server {
    store: Arc<Mutex<Store>>,
    target: UploadTarget,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Shared = State<Arc<Mutex<Store>>>;

async fn put_chunk(State(store): Shared, Path(n): Path<u32>, headers: HeaderMap, body: Bytes) -> Response {
    let mut store = store.lock().unwrap();
    store.puts += 1;
    if let Some(status) = store.always.or(store.refusals.pop()) {
        return (StatusCode::from_u16(status).unwrap(), store.problem).into_response();
    }
    let digest = Digest::from_field(headers.get("content-digest").unwrap().to_str().unwrap()).unwrap();
    if digest != Digest::of(&body) || !headers.contains_key("authorization") {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    store.chunks.insert(n, body);
    StatusCode::NO_CONTENT.into_response()
}

async fn held(State(store): Shared) -> Json<HeldChunks> {
    let runs = store.lock().unwrap().chunks.keys().map(|n| *n..n + 1).collect();
    Json(HeldChunks { runs, root: None })
}

async fn server(name: &str) -> Server {
    let store = Arc::new(Mutex::new(Store::default()));
    let routes = Router::new().route("/chunks", get(held)).route("/chunks/{n}", put(put_chunk));
    let routes = routes.layer(DefaultBodyLimit::disable()).with_state(Arc::clone(&store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/chunks", listener.local_addr().unwrap()).parse().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Server { store, target: UploadTarget { server: name.parse().unwrap(), zone: "a".parse().unwrap(), url }, task }
}

fn content(size: u64) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap()).collect()
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn plan(size: u64, quorum: u32, servers: &[&Server]) -> UploadPlan {
    let expires_at = jiff::Timestamp::now() + Duration::from_secs(900);
    UploadPlan {
        id: FileId::new(),
        chunk_size: ChunkLayout::of(size).unwrap().chunk_size(),
        quorum,
        upload: IssuedToken {
            token: Token::generate(TokenKind::Upload),
            token_id: TokenId::new(),
            expires_at,
            lifetime_s: None,
        },
        targets: servers.iter().map(|server| server.target.clone()).collect(),
    }
}

async fn publish(file: &std::path::Path, plan: &UploadPlan, resume: bool) -> Result<Published, UploadError> {
    publish_with_events(file, plan, resume, RateLimiter::default()).await.0
}

/// Publishes and also returns the events.
async fn publish_with_events(
    file: &std::path::Path,
    plan: &UploadPlan,
    resume: bool,
    rate_limiter: RateLimiter,
) -> (Result<Published, UploadError>, Vec<UploadEvent>) {
    let client = client_builder().build().unwrap();
    let events: Arc<Mutex<Vec<UploadEvent>>> = Arc::default();
    let sink = Arc::clone(&events);
    let progress = Box::new(move |event| sink.lock().unwrap().push(event));
    let publisher = Publisher { client, resume, rate_limiter, cancel: CancellationToken::new(), progress };
    let published = publisher.publish(File::open(file).unwrap(), plan);
    let published = tokio::time::timeout(Duration::from_secs(60), published).await.expect("the upload hangs");
    let events = events.lock().unwrap().clone();
    (published, events)
}

fn check(server: &Server, bytes: &[u8]) {
    let store = server.store.lock().unwrap();
    let held: Vec<u8> = store.chunks.values().flatten().copied().collect();
    assert!(held == bytes, "{}", server.target.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_target_gets_every_chunk_and_the_digests_are_those_of_the_file() {
    for size in [0, 1, MIB, 5 * MIB + 1] {
        let bytes = content(size);
        let (a, b) = (server("a").await, server("b").await);
        let published = publish(file(&bytes).path(), &plan(size, 2, &[&a, &b]), false).await.unwrap();
        assert_eq!(published.sha256, Digest::of(&bytes));
        let chunks: Vec<Digest> = bytes.chunks(1 << 20).map(Digest::of).collect();
        assert_eq!(published.digests, chunks);
        check(&a, &bytes);
        check(&b, &bytes);
        assert!(published.targets.iter().all(|target| target.sent == size && target.failure.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_keeps_to_its_rate_limit_in_all_and_no_target_counts_as_stalled() {
    for (size, rate) in [(MIB, 512 << 10), (6 * MIB, 6 << 20)] {
        let bytes = content(size);
        let (a, b) = (server("a").await, server("b").await);
        let (path, started) = (file(&bytes), Instant::now());
        let limiter = RateLimiter::with_total(rate);
        let (published, events) = publish_with_events(path.path(), &plan(size, 1, &[&a, &b]), false, limiter).await;
        assert!(published.unwrap().targets.iter().all(|target| target.sent == size && target.failure.is_none()));
        let (elapsed, expected) = (started.elapsed().as_secs_f64(), f64::from(u32::try_from(2 * size / rate).unwrap()));
        assert!((expected * 0.9..expected * 1.5 + 1.0).contains(&elapsed), "{elapsed} s at {rate} bytes/s");
        assert!(!events.iter().any(|event| matches!(event, UploadEvent::LeftBehind { .. })), "{events:?}");
        check(&a, &bytes);
        check(&b, &bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_failures_are_retried_and_each_chunk_is_accepted_once() {
    let bytes = content(3 * MIB);
    let a = server("a").await;
    a.store.lock().unwrap().refusals = vec![500, 503, 422, 429];
    publish(file(&bytes).path(), &plan(3 * MIB, 1, &[&a]), false).await.unwrap();
    check(&a, &bytes);
    assert_eq!(a.store.lock().unwrap().puts, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_target_is_left_behind_when_the_others_make_the_quorum_and_fails_when_not() {
    let bytes = content(3 * MIB);
    let (a, full) = (server("a").await, server("full").await);
    full.store.lock().unwrap().always = Some(507);
    let path = file(&bytes);
    let published = publish(path.path(), &plan(3 * MIB, 1, &[&a, &full]), false).await.unwrap();
    check(&a, &bytes);
    let failure = published.targets.iter().find_map(|target| target.failure.clone()).unwrap();
    assert!(failure.contains("507"), "{failure}");
    let error = publish(path.path(), &plan(3 * MIB, 2, &[&a, &full]), false).await.unwrap_err();
    assert!(
        matches!(&error, UploadError::Quorum { alive: 1, quorum: 2, failed: 1, full: 1, reasons } if reasons.contains("full: chunk")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_in_the_words_of_the_servers_problem_document() {
    let bytes = content(MIB);
    let path = file(&bytes);
    for (status, problem, words) in [
        (
            507,
            r#"{"title":"This server's disk is full","detail":"make room"}"#,
            "a: This server's disk is full: make room",
        ),
        (409, r#"{"title":"Gone \u001b[2J elsewhere"}"#, "a: Gone [2J elsewhere"),
        (507, "no document", "a: chunk 0: status 507"),
    ] {
        let a = server("a").await;
        {
            let mut store = a.store.lock().unwrap();
            (store.always, store.problem) = (Some(status), problem);
        }
        let error = publish(path.path(), &plan(MIB, 1, &[&a]), false).await.unwrap_err();
        let UploadError::Quorum { reasons, full, .. } = &error else { panic!("{error}") };
        assert_eq!((reasons.as_str(), *full), (words, usize::from(status == 507)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_try_sends_only_what_is_missing() {
    let bytes = content(4 * MIB);
    let a = server("a").await;
    a.store.lock().unwrap().chunks.insert(1, Bytes::copy_from_slice(bytes.get(1 << 20..2 << 20).unwrap()));
    let published = publish(file(&bytes).path(), &plan(4 * MIB, 1, &[&a]), true).await.unwrap();
    check(&a, &bytes);
    assert_eq!(a.store.lock().unwrap().puts, 3);
    assert_eq!((published.targets[0].sent, published.targets[0].resumed), (3 * MIB, MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_during_the_upload_is_not_published() {
    let bytes = content(3 * MIB);
    let a = server("a").await;
    // The first chunk is refused for a moment: time to change the file.
    a.store.lock().unwrap().refusals = vec![503, 503];
    let path = file(&bytes);
    let append = async {
        while a.store.lock().unwrap().puts == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        File::options().append(true).open(path.path()).unwrap().write_all(b"more").unwrap();
    };
    let plan = plan(3 * MIB, 1, &[&a]);
    let (result, ()) = tokio::join!(publish(path.path(), &plan, false), append);
    assert!(matches!(result, Err(UploadError::Changed)), "{result:?}");
}

/// Returns a target at whose address no process accepts bytes: paused, or gone.
fn unresponsive(
    name: &str,
    listener: std::net::TcpListener,
    paused: bool,
) -> (UploadTarget, Option<std::net::TcpListener>) {
    let url = format!("http://{}/chunks", listener.local_addr().unwrap()).parse().unwrap();
    let target = UploadTarget { server: name.parse().unwrap(), zone: "a".parse().unwrap(), url };
    // The system accepts connections on behalf of a paused process.
    (target, paused.then_some(listener))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_target_is_left_behind_in_seconds_when_the_others_make_the_quorum() {
    for (paused, limit) in [(true, 12), (false, 6)] {
        let bytes = content(20 * MIB);
        let a = server("a").await;
        let (stalled, _listener) = unresponsive("stalled", std::net::TcpListener::bind("127.0.0.1:0").unwrap(), paused);
        let mut plan = plan(20 * MIB, 1, &[&a]);
        plan.targets.push(stalled);
        let began = Instant::now();
        for resume in [false, true] {
            let path = file(&bytes);
            let (published, events) = publish_with_events(path.path(), &plan, resume, RateLimiter::default()).await;
            let published = published.unwrap();
            assert!(published.targets[0].failure.is_none() && published.targets[1].failure.is_some());
            let left = |event: &UploadEvent| matches!(event, UploadEvent::LeftBehind { server, .. } if server.as_str() == "stalled");
            assert_eq!(events.iter().filter(|event| left(event)).count(), 1, "{events:?}");
            assert_eq!(events.last(), Some(&UploadEvent::Held(20 * MIB)), "{events:?}");
        }
        check(&a, &bytes);
        assert!(began.elapsed() < 2 * Duration::from_secs(limit), "paused: {paused}, {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_limit_feeds_one_target_after_the_other_and_one_that_is_too_low_is_named() {
    let rate = 8 << 10;
    let servers = [server("one").await, server("two").await, server("three").await];
    let bytes = content(rate);
    let accepted: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let times = Arc::clone(&accepted);
    let progress = Box::new(move |event| {
        if event == UploadEvent::Accepted {
            times.lock().unwrap().push(Instant::now());
        }
    });
    let (source, plan, cancel) = (file(&bytes), plan(rate, 3, &servers.each_ref()), CancellationToken::new());
    let (client, rate_limiter) = (client_builder().build().unwrap(), RateLimiter::with_total(rate));
    let publisher = Publisher { client, resume: false, rate_limiter, cancel, progress };
    let begun = Instant::now();
    publisher.publish(File::open(source.path()).unwrap(), &plan).await.unwrap();
    servers.iter().for_each(|server| check(server, &bytes));
    let first = accepted.lock().unwrap()[0].duration_since(begun);
    assert!(first < Duration::from_millis(1800), "the first target had to share the limit: {first:?}");

    let bytes = content(MIB);
    let (limit, plan) = (RateLimiter::with_total(1000), self::plan(MIB, 1, &[&servers[0]]));
    let error = publish_with_events(file(&bytes).path(), &plan, false, limit).await.0.unwrap_err();
    assert!(matches!(error, UploadError::LimitTooLow { rate: 1000, min: 4096 }), "{error}");
}
