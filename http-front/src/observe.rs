//! A span with the trace id, one log line, and metrics for every request.
//!
//! The first request of a trace that a client named is logged at `info`, every further one at `debug`, so that a download of
//! thousands of ranges is one line on each server.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode},
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
use tracing::{Instrument as _, Span, level_filters::LevelFilter};
use wire::{TraceId, trace::HEADER};

/// Media type of [`encode_metrics`].
pub const OPENMETRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Number of traces remembered, so that each is logged at `info` once.
const MAX_REMEMBERED_TRACES: u64 = 4096;
/// Upper bound in seconds of the first duration bucket; with the two constants below the last one is 16 s.
const FIRST_BUCKET_S: f64 = 0.001;
/// Ratio of the upper bounds of two neighbouring buckets.
const BUCKET_RATIO: f64 = 4.0;
/// Number of duration buckets.
const BUCKET_COUNT: u16 = 8;

tokio::task_local! {
    static TRACE: TraceId;
}

/// Returns the trace of the request that this task handles, for requests that the server sends on its behalf.
pub fn current_trace() -> Option<TraceId> {
    TRACE.try_with(|trace| *trace).ok()
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResponseLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// Metrics of all requests to one server.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    answered: Family<ResponseLabels, Counter>,
    durations: Durations,
    running: Gauge,
    traces: Cache<TraceId, ()>,
}

impl RequestMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let durations: Durations = Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(FIRST_BUCKET_S, BUCKET_RATIO, BUCKET_COUNT))
        });
        let (answered, running) = (Family::default(), Gauge::default());
        registry.register("requests", "Requests answered, by route and status", answered.clone());
        let help = "Time from the head of a request to the head of its response";
        registry.register_with_unit("request_duration", help, Unit::Seconds, durations.clone());
        registry.register("requests_running", "Requests whose response has not been sent completely", running.clone());
        Self { answered, durations, running, traces: Cache::new(MAX_REMEMBERED_TRACES) }
    }

    fn count(&self, method: &Method, route: &str, status: StatusCode, started: Instant) {
        let (answered, duration) = self.of(method, route, status);
        answered.inc();
        duration.observe(started.elapsed().as_secs_f64());
    }

    /// Returns the metrics of such responses.
    fn of(&self, method: &Method, route: &str, status: StatusCode) -> (Counter, Histogram) {
        let labels = ResponseLabels { method: method_label(method), route: route.to_owned(), status: status.as_u16() };
        let answered = self.answered.get_or_create_owned(&labels);
        (answered, self.durations.get_or_create_owned(&RouteLabels { route: route.to_owned() }))
    }
}

/// Returns the metric label of a method. Clients can invent methods, so unknown ones share a label.
fn method_label(method: &Method) -> &'static str {
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

/// Encodes metrics as OpenMetrics 1.0, which Prometheus reads.
pub fn encode_metrics(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut text, registry);
    text
}

/// Adds a span, a log line and metrics to every request of `router`.
pub fn observe_requests(router: Router, metrics: RequestMetrics) -> Router {
    router.layer(from_fn_with_state(metrics, observe))
}

async fn observe(State(metrics): State<RequestMetrics>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let named = named_trace(request.headers());
    let trace = named.unwrap_or_else(TraceId::new);
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route: Arc<str> = matched.as_ref().map_or("none", MatchedPath::as_str).into();
    let method = request.method().clone();
    let span = request_span(trace, method_label(&method), &route);
    let first = named.is_some() && metrics.traces.entry(trace).or_insert(()).await.is_fresh();
    let running = RunningRequest::new(&metrics.running);
    let response = TRACE.scope(trace, next.run(request).instrument(span.clone())).await;
    metrics.count(&method, &route, response.status(), started);
    let span = LogSpan::Open(span);
    let log = RequestLog { span, started, status: response.status(), first, sent: 0, _running: running };
    response.map(|body| Body::new(ObservedBody { body, log }))
}

/// Returns the trace that a request names.
fn named_trace(headers: &HeaderMap) -> Option<TraceId> {
    headers.get(HEADER).and_then(|value| TraceId::from_header(value.to_str().ok()?).ok())
}

fn request_span(trace: TraceId, method: &'static str, route: &str) -> Span {
    tracing::info_span!("request", %trace, method, %route)
}

/// Observer of the requests to one route whose responses bypass the router. Their metrics and log lines are those of routed
/// requests.
#[derive(Debug, Clone)]
pub struct ReadyRoute {
    metrics: RequestMetrics,
    route: &'static str,
    /// Metrics of 206, once there was one: of all responses only those are frequent.
    partial: Arc<OnceLock<(Counter, Histogram)>>,
}

/// Request to a [`ReadyRoute`] that has no response yet.
#[derive(Debug)]
pub struct ReadyRequest {
    started: Instant,
    trace: Option<TraceId>,
}

impl ReadyRoute {
    /// Returns the observer of `route`, spelled as in the table of routes.
    pub fn new(metrics: RequestMetrics, route: &'static str) -> Self {
        Self { metrics, route, partial: Arc::default() }
    }

    /// Returns the observation of a request, or `None` if the request is the first one of its trace, which the router logs.
    pub fn begin(&self, headers: &HeaderMap) -> Option<ReadyRequest> {
        let started = Instant::now();
        let trace = named_trace(headers);
        let is_logged = trace.is_none_or(|trace| self.metrics.traces.contains_key(&trace));
        is_logged.then_some(ReadyRequest { started, trace })
    }

    /// Counts the response to a request, and logs it once it is sent.
    pub fn observe(&self, request: ReadyRequest, method: &Method, response: Response) -> Response {
        let ReadyRequest { started, trace } = request;
        let status = response.status();
        if *method == Method::GET && status == StatusCode::PARTIAL_CONTENT {
            let (answered, duration) = self.partial.get_or_init(|| self.metrics.of(method, self.route, status));
            answered.inc();
            duration.observe(started.elapsed().as_secs_f64());
        } else {
            self.metrics.count(method, self.route, status, started);
        }
        let span = LogSpan::Deferred { trace, method: method_label(method), route: self.route };
        let running = RunningRequest::new(&self.metrics.running);
        let log = RequestLog { span, started, status, first: false, sent: 0, _running: running };
        response.map(|body| Body::new(ObservedBody { body, log }))
    }
}

/// Count of one running request, taken back on drop.
struct RunningRequest(Gauge);

impl RunningRequest {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Span of a log line.
enum LogSpan {
    /// Span of the request.
    Open(Span),
    /// The fields of one that is made for the line: nothing else is logged about the request.
    Deferred { trace: Option<TraceId>, method: &'static str, route: &'static str },
}

impl LogSpan {
    fn open(&self) -> Span {
        match self {
            Self::Open(span) => span.clone(),
            Self::Deferred { trace, method, route } => request_span(trace.unwrap_or_else(TraceId::new), method, route),
        }
    }
}

/// Log line of a request, written on drop: when the response has been sent or abandoned.
struct RequestLog {
    span: LogSpan,
    started: Instant,
    status: StatusCode,
    first: bool,
    sent: u64,
    _running: RunningRequest,
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        // Whatever the filter says, no log has a line of this level.
        if !self.first && LevelFilter::current() < LevelFilter::DEBUG {
            return;
        }
        let _entered = self.span.open().entered();
        let (status, bytes) = (self.status.as_u16(), self.sent);
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.first {
            tracing::info!(status, bytes, ms, "Request answered");
        } else {
            tracing::debug!(status, bytes, ms, "Request answered");
        }
    }
}

/// Response body that counts its bytes. Frames pass unchanged, because the transport recognises those it can send with
/// `sendfile`.
struct ObservedBody {
    body: Body,
    log: RequestLog,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.log.sent = self.log.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
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
