//! What every request leaves behind: a span with its trace, a line, and numbers.
//!
//! The first request of a trace that a client named is a line at `info`, every further one at `debug`: a download of
//! thousands of ranges is one line on each server.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http_body::{Frame, SizeHint};
use moka::future::Cache;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tracing::{Instrument as _, Span};
use wire::{TraceId, trace::HEADER};

/// The media type of [`exposition`].
pub const EXPOSITION: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Traces remembered, so that each is one line.
const TRACES: u64 = 4096;
/// Upper bounds from 1 ms to 16 s, each four times the one before.
const BUCKETS: (f64, f64, u16) = (0.001, 4.0, 8);

tokio::task_local! {
    static TRACE: TraceId;
}

/// The trace of the request that is being answered by this task, for requests made on its behalf.
pub fn current_trace() -> Option<TraceId> {
    TRACE.try_with(|trace| *trace).ok()
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    route: String,
}

type Seconds = Family<Asked, Histogram, fn() -> Histogram>;

/// The numbers of all requests to one server.
#[derive(Debug, Clone)]
pub struct Requests {
    answered: Family<Answered, Counter>,
    seconds: Seconds,
    running: Gauge,
    traces: Cache<TraceId, ()>,
}

impl Requests {
    /// Registers the numbers.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds: Seconds = Family::new_with_constructor(|| {
            let (first, factor, count) = BUCKETS;
            Histogram::new(exponential_buckets(first, factor, count))
        });
        let (answered, running) = (Family::default(), Gauge::default());
        registry.register("requests", "Requests answered, by route and status", answered.clone());
        let help = "Time from a request's head to that of its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, seconds.clone());
        registry.register("requests_running", "Requests whose answer is not sent to its end", running.clone());
        Self { answered, seconds, running, traces: Cache::new(TRACES) }
    }

    fn count(&self, method: &Method, route: &str, status: StatusCode, begun: Instant) {
        let labels = Answered { method: name(method), route: route.to_owned(), status: status.as_u16() };
        self.answered.get_or_create(&labels).inc();
        let labels = Asked { route: route.to_owned() };
        self.seconds.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
    }
}

/// Anyone may make up methods; a label must not take them all.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The text that Prometheus reads (OpenMetrics 1.0).
pub fn exposition(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut text, registry);
    text
}

/// Gives every request its span, its line and its numbers.
pub fn observed(router: Router, requests: Requests) -> Router {
    router.layer(from_fn_with_state(requests, observe))
}

async fn observe(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let named = request.headers().get(HEADER).and_then(|value| TraceId::from_header(value.to_str().ok()?).ok());
    let trace = named.unwrap_or_else(TraceId::new);
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route: Arc<str> = matched.as_ref().map_or("none", MatchedPath::as_str).into();
    let method = request.method().clone();
    let span = tracing::info_span!("request", %trace, method = name(&method), %route);
    let first = named.is_some() && requests.traces.entry(trace).or_insert(()).await.is_fresh();
    let running = Running::new(&requests.running);
    let response = TRACE.scope(trace, next.run(request).instrument(span.clone())).await;
    requests.count(&method, &route, response.status(), begun);
    let line = Line { span, begun, status: response.status(), first, sent: 0, _running: running };
    response.map(|body| Body::new(Observed { body, line }))
}

/// Counts as running until it is dropped.
struct Running(Gauge);

impl Running {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is told of a request once its answer has ended, one way or another.
struct Line {
    span: Span,
    begun: Instant,
    status: StatusCode,
    first: bool,
    sent: u64,
    _running: Running,
}

impl Drop for Line {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let (status, bytes) = (self.status.as_u16(), self.sent);
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.first {
            tracing::info!(status, bytes, ms, "answered");
        } else {
            tracing::debug!(status, bytes, ms, "answered");
        }
    }
}

/// A body whose frames pass untouched: the connection recognises them.
struct Observed {
    body: Body,
    line: Line,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.line.sent = self.line.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
