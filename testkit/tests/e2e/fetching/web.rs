//! A web server of the test's own, which serves one content in as many ways as a path can ask for.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Response, StatusCode, header},
    routing::get,
};
use bytes::Bytes;
use futures::stream;
use tokio::{net::TcpListener, task::JoinHandle};

/// Bytes that are sent at a time.
const PIECE: usize = 64 << 10;

/// A web server that runs until it is dropped.
pub(crate) struct Web {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Content that it serves and requests that it received.
pub(crate) struct Shared {
    version: Mutex<Version>,
    /// Ascends whenever bodies that are being sent are to break off.
    cuts: AtomicU64,
    /// Set if ranges are refused from now on, except the first byte.
    closed: AtomicBool,
    /// Bytes of bodies that were sent.
    pub(crate) sent: AtomicU64,
    /// Requests that came.
    pub(crate) asked: AtomicU64,
    /// Milliseconds between two pieces of a body.
    pub(crate) pause: AtomicU64,
}

/// One version of the content.
#[derive(Clone)]
struct Version {
    number: u64,
    content: Bytes,
}

impl Web {
    pub(crate) async fn serve(content: Vec<u8>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            version: Mutex::new(Version { number: 1, content: content.into() }),
            cuts: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            pause: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/{how}/{*name}", get(answer)).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Ok(Self { address, shared, task })
    }

    /// The address of the content, served in this way.
    pub(crate) fn url(&self, how: &str, name: &str) -> String {
        format!("http://{}/{how}/{name}", self.address)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Has another content under the same address; bodies that are being sent break off.
    pub(crate) fn change(&self, content: Vec<u8>) {
        let mut version = self.shared.version.lock().unwrap();
        *version = Version { number: version.number + 1, content: content.into() };
        drop(version);
        self.cut();
    }

    /// Breaks off all bodies that are being sent.
    pub(crate) fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Refuses ranges from now on, and sends the whole to a request for that.
    pub(crate) fn refuse_ranges(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// Slows every body down to about so many bytes a second.
    pub(crate) fn limit(&self, rate: u64) {
        let pause = (PIECE as u64 * 1000).checked_div(rate).unwrap_or(0);
        self.shared.pause.store(pause, Ordering::Relaxed);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path((how, _)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let n = shared.asked.fetch_add(1, Ordering::Relaxed);
    let refusal = match how.as_str() {
        "once" if n > 0 => Some(StatusCode::GONE),
        "busy-once" if n == 0 => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    };
    if let Some(status) = refusal {
        return Response::builder().status(status).header(header::RETRY_AFTER, "3").body(Body::empty()).unwrap();
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let version = shared.version.lock().unwrap().clone();
    // Two servers that take turns make tags of their own.
    let server = if how == "two-tags" { n % 2 } else { 0 };
    let etag = format!("\"{}-{server}\"", version.number);
    let all = 0..version.content.len();
    let asked = text(header::RANGE).and_then(|range| {
        let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
        let end = if end.is_empty() { all.end } else { end.parse::<usize>().ok()? + 1 };
        Some(start.parse::<usize>().ok()?..end.min(all.end))
    });
    if asked.as_ref().is_some_and(|range| range.end > 1) && shared.closed.load(Ordering::Relaxed) {
        return Response::builder().status(StatusCode::FORBIDDEN).body(Body::empty()).unwrap();
    }
    let same = how == "deaf" || text(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let range = asked.filter(|range| same && !range.is_empty() && how != "no-ranges" && how != "no-length");
    let mut answer = Response::builder();
    if how != "no-validator" {
        answer = answer.header(header::ETAG, &etag);
    }
    if how == "digest" {
        answer = answer.header("repr-digest", wire::Digest::of(&version.content).to_field());
    }
    if how == "named" {
        answer = answer.header(header::CONTENT_DISPOSITION, "attachment; filename=\"../../escaped.bin\"");
    }
    let sent = range.clone().unwrap_or(all.clone());
    match &range {
        Some(range) => {
            let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, all.end);
            answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, content_range);
        }
        None => answer = answer.status(StatusCode::OK),
    }
    if how != "no-length" {
        answer = answer.header(header::CONTENT_LENGTH, sent.len());
    }
    answer.body(body(shared, version.content, sent)).unwrap()
}

fn body(shared: Arc<Shared>, content: Bytes, range: std::ops::Range<usize>) -> Body {
    let cuts = shared.cuts.load(Ordering::Relaxed);
    Body::from_stream(stream::unfold((shared, content, range), move |(shared, content, range)| async move {
        if range.is_empty() {
            return None;
        }
        let pause = shared.pause.load(Ordering::Relaxed);
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if shared.cuts.load(Ordering::Relaxed) != cuts {
            return Some((Err(io::ErrorKind::ConnectionReset.into()), (shared, content, 0..0)));
        }
        let end = range.end.min(range.start + PIECE);
        let piece = content.slice(range.start..end);
        shared.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Some((Ok::<_, io::Error>(piece), (shared, content, end..range.end)))
    }))
}
